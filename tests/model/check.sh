#!/bin/bash
# Checks the model of the delivery protocol with spin: the model itself has no error, and every twin with a seeded bug has one. See README.md.
# usage: tests/model/check.sh [safety | liveness | twins | --large] ...      without: the first three
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failed=0

command -v spin >/dev/null || { echo "model: spin is not here (apt-get install spin)" >&2; exit 1; }

fail() { echo "model: $*" >&2; failed=1; }

# The twins: bug, property that it breaks (README.md), how many workers that takes.
twins='
RECEIPT_BEFORE_COMMIT S1 2
NEW_KEY               S1 2
NO_KEY_CHECK          S1 2
REPAIR_RESENDS        S2 2
NO_EPOCH              S2 2
LATE_CALL             S2 2
CALL_BEFORE_COMMIT    S2 2
TRUST_BELL            S3 2
INVENTED_EVIDENCE     S4 2
NO_CAS                S5 2
NEW_REFUND_KEY        S5 2
RING_BUMPS            S6 2
FINAL_OWES            S7 2
REFUND_WHILE_RUNNING  S7 2
NO_RINGER             L1 1
NO_TAKE_OVER          L1 1
NO_REPAIR             L1 1
NEVER_ASKS            L2 1
NO_HOLD               L2 2
CLIENT_GIVES_UP       L3 1
'
declare -A claims=([L1]=moves [L2]=ends [L3]=answered)

# Searches one claim of one variant completely, or up to the first error. Leaves pan's words in $work/$1.out.
search() { # name claim memory_mb [-D...]
  local name=$1 claim=$2 memory=$3 dir=$work/$1 how run
  shift 3
  mkdir -p "$dir" && cd "$dir" || exit 1
  if [ "$claim" = safety ]; then
    how=(-DSAFETY) run=()
  else
    how=(-DNFAIR=4) run=(-a -f -N "$claim")
    set -- "$@" -DFAULTS="${FAULTS:-1}"
  fi
  { spin -a "$@" "$here/protocol.pml" && gcc "${OPTIMISE:--O2}" -w -DCOLLAPSE -DMEMLIM="$memory" "${how[@]}" -o pan pan.c && ./pan "${run[@]}" -m1000000 -w"${HASH:-22}"; } \
    >"$work/$name.out" 2>&1
  cd "$here" || exit 1
}

# A search that is not complete proves nothing.
complete() { # name
  local out=$work/$1.out
  grep -q 'errors: 0$' "$out" && ! grep -qE 'Search not completed|max search depth|out of memory|memory limit|truncated' "$out"
}

figures() { # name
  sed -n -e 's/^ *\([0-9.e+]*\) states, stored.*/\1 states/p' -e 's/^State-vector.*depth reached \([0-9]*\).*/depth \1/p' \
    -e 's/^ *\([0-9.]*\)\ttotal actual memory usage/\1 MB/p' -e 's/^pan: elapsed time \(.*\) seconds/\1 s/p' "$work/$1.out" | paste -sd, | sed 's/,/, /g'
}

holds() { # name claim memory_mb [-D...]
  search "$@"
  if complete "$1"; then
    echo "holds  $1: $(figures "$1")"
  else
    fail "$1 does not hold, or the search was not complete:"
    tail -40 "$work/$1.out" >&2
  fi
}

# Every statement below the first proctype is reached in some behaviour, the witnesses too: nothing holds because nothing happens.
not_vacuous() { # name
  local first unreached
  first=$(grep -n '^proctype' "$here/protocol.pml" | head -1 | cut -d: -f1)
  unreached=$(sed -n 's/^\t[^:]*protocol.pml:\([0-9]*\), state [0-9]*, \(.*\)/\1 \2/p' "$work/$1.out" | awk -v first="$first" '$1 >= first && $0 !~ /-end-/')
  [ -z "$unreached" ] || fail "$1: never reached: $unreached"
  grep -q '^unreached in proctype witness' "$work/$1.out" || fail "$1: has no witnesses"
}

# The model's edges are edges of the real specification: docs/chain.md, which a test compares with the database.
specification() {
  local from to by at
  while read -r from to by; do
    at=${from/#NONE/(new)}
    for to in $by $to; do
      grep -qF "| $at | $to |" "$here/../../docs/chain.md" || fail "docs/chain.md has no edge from $at to $to"
      at=$to
    done
  done < <(sed -n 's/^ *[(|]*|* *(*FROM(\([A-Z_]*\), \([A-Z_]*\))[) ]*\\*\(\/\* by \([A-Z_ ]*\) \*\/\)*.*/\1 \2 \4/p' "$here/protocol.pml")
}

safety() {
  specification
  holds safety safety 2000
  not_vacuous safety
}

liveness() {
  for claim in moves ends answered; do
    holds "$claim" "$claim" 2000 -DWORKERS=1
  done
}

twin() { # bug property workers
  local claim=${claims[$2]:-safety} flags=(-DBUG_"$1" -DWORKERS="$3") words='acceptance cycle'
  [ "$claim" != safety ] || flags+=(-DONLY="${2#S}") words='assertion violated'
  OPTIMISE=-O0 search "$1" "$claim" 2000 "${flags[@]}"
  if grep -q "^pan:1: $words" "$work/$1.out" && ! grep -q 'violated.*runs<' "$work/$1.out"; then
    echo "caught $1 by $2: $(figures "$1")"
  else
    fail "the twin $1 was not caught by $2:"
    tail -30 "$work/$1.out" >&2
  fi
}

all_twins() {
  local bug property workers
  while read -r bug property workers; do
    [ -z "$bug" ] || twin "$bug" "$property" "$workers"
  done <<<"$twins"
}

# More of everything, with the number of states: some ten minutes, 2 GB.
large() {
  local claim
  HASH=26 holds two_workers_two_repairers safety 8000 -DREPAIRERS=2
  for claim in moves ends answered; do
    HASH=24 holds "${claim}_two_workers" "$claim" 8000 -DWORKERS=2
  done
}

[ $# -gt 0 ] || set -- safety liveness twins
for what; do
  case $what in
  safety | liveness) "$what" ;;
  twins) all_twins ;;
  --large) large ;;
  *) echo "usage: tests/model/check.sh [safety | liveness | twins | --large] ..." >&2; exit 64 ;;
  esac
done
exit $failed
