#!/bin/bash
# Formats (with --fix) or checks the format, and runs clang-tidy and cppcheck over our C. Needs a configured build/dev (compile_commands.json).
# usage: tests/lint.sh [--fix]      exit status 0: nothing to say
set -u
cd "$(dirname "$0")/.." || exit 1
mapfile -t files < <(git ls-files '*.c' '*.h')
failed=0
if [ "${1:-}" = --fix ]; then
  clang-format -i "${files[@]}"
else
  # The format is that of clang-format 14; later versions differ in small things, so only that one judges.
  if clang-format --version | grep -q 'version 14\.'; then
    clang-format --dry-run -Werror "${files[@]}" || failed=1
  else
    echo "lint: clang-format 14 is not here, the format is not judged"
  fi
fi
mapfile -t sources < <(git ls-files '*.c' | grep -v '^tests/')
[ -f build/dev/compile_commands.json ] || cmake --preset dev >/dev/null || exit 1
ninja -C build/dev proto/aethelos.pb-c.h >/dev/null 2>&1
printf '%s\n' "${sources[@]}" | xargs -P "$(nproc)" -n 4 clang-tidy -quiet -p build/dev 2>/dev/null || failed=1
cppcheck --quiet --error-exitcode=1 --enable=warning,portability --inline-suppr --suppress=missingInclude --std=c11 -j "$(nproc)" -D_GNU_SOURCE \
  -DAETHELOS_VERSION='"x"' -Icommon -I. "${sources[@]}" || failed=1
[ $failed = 0 ] && echo "lint: ${#files[@]} files, nothing to say"
exit $failed
