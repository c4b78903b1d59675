#!/bin/bash
# The examples of one language against a real stack: the publisher gets its receipt, the worker does the step of a paid job.
# usage: languages.sh BIN_DIR LANGUAGE     exit status 77: the language's tools are not on this machine
#        languages.sh --all                installs what is missing (about 1 GB), builds, and runs every language; none may be missing
set -eu
home=$(cd "$(dirname "$0")/.." && pwd)
languages="c csharp go java rust"
declare -A needs=([c]="gcc protoc-c" [csharp]="mcs mono" [go]="go" [java]="javac java" [rust]="rustc")
declare -A packages=([c]="gcc libc6-dev libnats-dev protobuf-c-compiler libprotobuf-c-dev" [csharp]="mono-mcs mono-runtime" [go]="golang-go golang-github-nats-io-go-nats-dev"
  [java]="default-jdk-headless" [rust]="rustc")

missing() { local tool; for tool in ${needs[$1]}; do command -v "$tool" >/dev/null || { echo "$tool"; return; }; done
  [ "$1" != go ] || [ -d /usr/share/gocode/src/github.com/nats-io/nats.go ] || echo "the NATS client for Go"; }

if [ "${1:-}" = --all ]; then
  for language in $languages; do
    [ -z "$(missing $language)" ] || apt-get update -qq || true # an old list may do
    [ -z "$(missing $language)" ] || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ${packages[$language]} >/dev/null
  done
  passed=0 failed=0
  for language in $languages; do
    if "$0" "$home/build/release/bin" $language; then passed=$((passed + 1)); else failed=$((failed + 1)) && echo "NOT ok: $language"; fi
  done
  echo "$passed passed, $failed failed"
  [ $failed = 0 ]
  exit
fi

bin=$(realpath "$1") language=$2
lacks=$(missing "$language")
[ -z "$lacks" ] || { echo "SKIPPED: $lacks is not on this machine; tests/languages.sh --all installs it"; exit 77; }
export AETHELOS_HOME=$home
dir=$(mktemp -d /tmp/aethelos-language-XXXXXX)
export AETHELOS_STATE=$dir/state
chmod 755 "$dir" # started by root, the servers run as another user
aethelos=$bin/aethelos worker=
finish() {
  status=$?
  [ -z "$worker" ] || kill "$worker" 2>/dev/null || true
  "$aethelos" down >/dev/null 2>&1 || true
  [ $status = 0 ] || tail -n 5 "$dir"/*.log "$AETHELOS_STATE"/log/* 2>/dev/null || true
  rm -rf "$dir"
}
trap finish EXIT
fail() { echo "NOT ok: $*"; exit 1; }
check() { case $2 in *"$3"*) echo "ok: $1" ;; *) fail "$1: no '$3' in: $2" ;; esac; }
member() { grep -o "\"$1\":\"[^\"]*\"" | head -1 | cut -d'"' -f4; }

# What a person would type; publish and work are then the commands.
cd "$dir"
case $language in
c)
  cc -Wall -Wextra -Werror -o publish "$home/examples/publish-c/publish.c" -lnats
  cc -Wall -Wextra -Werror -o worker "$home/examples/worker-c/worker.c" -lnats
  protoc-c --c_out=. --proto_path="$home" proto/aethelos.proto
  cc -Wall -Wextra -Werror -I. -o packed "$home/examples/worker-c-protobuf/worker.c" proto/aethelos.pb-c.c -lnats -lprotobuf-c
  publish=(./publish) work=(./worker) answer=cba
  ;;
csharp)
  mcs -warnaserror -out:Publish.exe "$home/examples/publish-csharp/Publish.cs"
  mcs -warnaserror -out:Worker.exe "$home/examples/worker-csharp/Worker.cs"
  publish=(mono Publish.exe) work=(mono Worker.exe) answer='bytes        3'
  ;;
go) # Debian's client is found by GOPATH; elsewhere: go mod init, go get github.com/nats-io/nats.go
  export GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE=$dir/cache
  go vet "$home/examples/publish-go/publish.go"
  go build -o publish "$home/examples/publish-go/publish.go"
  go build -o worker "$home/examples/worker-go/worker.go"
  publish=(./publish) work=(./worker) answer=cba
  ;;
java)
  javac -Xlint:all -Werror -d . "$home/examples/publish-java/Publish.java" "$home/examples/worker-java/Worker.java"
  publish=(java -cp . Publish) work=(java -cp . Worker) answer='bytes        3'
  ;;
rust)
  rustc --edition 2021 -D warnings -o publish "$home/examples/publish-rust/publish.rs"
  rustc --edition 2021 -D warnings -o worker "$home/examples/worker-rust/worker.rs"
  publish=(./publish) work=(./worker) answer='bytes        3'
  ;;
*) fail "there are no examples in $language" ;;
esac

"$aethelos" up --port 0 >/dev/null
status=$("$aethelos" status --json)
nats=$(member nats_url <<<"$status") user=$(member nats_user <<<"$status") password=$(member nats_password_file <<<"$status")
first=$("${publish[@]}" "$home/examples/text-analysis.json" "$nats" "$user" "$password" 2>&1)
check "$language: a job is published and receipted" "$first" '"accepted"'
key=$(sed -n 's/^key //p' <<<"$first")
again=$(KEY=$key NATS_URL=$nats NATS_USER=$user NATS_PASSWORD_FILE=$password "${publish[@]}" "$home/examples/text-analysis.json" 2>/dev/null)
check "$language: the same key, the same job" "$again" "$(grep -o '"job_id": *"[^"]*"' <<<"$first")"
echo '{"type":"none","payload":{}}' >unknown.json
refused=0
"${publish[@]}" unknown.json "$nats" "$user" "$password" >refused.log 2>&1 || refused=$?
[ $refused = 1 ] || fail "$language: a refusal has status 1, not $refused"
check "$language: a refusal is shown" "$(cat refused.log)" '"rejected"'

# As execution asks: subject, body; the answer.
ask() {
  local word address=${nats#nats://}
  exec 4<>"/dev/tcp/${address%:*}/${address##*:}"
  printf 'CONNECT {"user":"execution","pass":"%s","verbose":false}\r\nSUB _INBOX_execution.ask 1\r\nPUB %s _INBOX_execution.ask %d\r\n%s\r\n' \
    "$(<"$AETHELOS_STATE/secrets/nats/execution")" "$1" "${#2}" "$2" >&4
  while read -r -t 10 -u 4 -a word; do
    case ${word[0]} in MSG | HMSG) timeout 10 head -c "${word[-1]%$'\r'}" <&4 | tr -d '\0' && break ;; -ERR*) echo "${word[*]}" && break ;; esac
  done
  exec 4>&-
}
# A run that is done is not done again, and its worker says what came of it. operator, what `run` has printed, what the result has
asked() {
  local run question call
  run=$("$aethelos" explain "$(sed -n 's/^ *job  *\([0-9a-f-]\{36\}\).*/\1/p' <<<"$2" | head -1)" --json | grep -o '"runs":.*' | member id)
  if [ "$1" = packer ]; then # bytes of proto/vectors/worker.json, with another run; a message ends where it ends
    question=$'\x0a\x24'$run call=$'\x0a\x24'$run$'\x12\x24'$run$'\x18\x01\x20\x01\x2a\x02{}\x32\x02{}\x38\x09\x40\x01'
  else
    question="{\"run_id\":\"$run\"}" call="{\"run_id\":\"$run\",\"token\":9,\"input\":{\"text\":\"other\"}}"
  fi
  check "$language: asked, it says what came of the run" "$(ask "aethelos.operator.$1.status" "$question")" "${3##* }"
  check "$language: given it again, it says the same" "$(ask "aethelos.operator.$1" "$call")" "${3##* }"
}
# operator, what else it is registered with, what the result has, the command of its worker
works() {
  local operator=$1 more=$2 answer=$3 login job
  shift 3
  check "an operator" "$(echo "{\"name\":\"$operator\",\"kind\":\"bus\",\"tags\":[\"$operator\"],\"lease_ms\":2000$more}" | "$aethelos" operators add -)" "$([ -z "$more" ] && echo bus || echo protobuf)"
  check "a flow for it" "$(echo "{\"name\":\"${operator}_flow\",\"type\":\"$operator\",\"base\":\"1.00\",\"per_unit\":\"0\",\"currency\":\"EUR\",\"steps\":[{\"tag\":\"$operator\"}]}" |
    "$aethelos" flows add -)" "${operator}_flow"
  echo "{\"type\":\"$operator\",\"payload\":{\"text\":\"abc\"}}" >job.json
  login=$("$aethelos" operators worker "$operator" --json)
  WORK_SECONDS=0.4 "$@" "$operator" "$nats" "$(member nats_user <<<"$login")" "$(member nats_password_file <<<"$login")" >worker.log 2>&1 &
  worker=$!
  for i in $(seq 600); do # a virtual machine takes its time to begin; a call that finds nobody is sent again a few times only
    kill -0 "$worker" || fail "$language: the worker has ended: $(cat worker.log)"
    ls -l "/proc/$worker/fd" 2>/dev/null | grep -q socket: && break
    sleep 0.05
  done
  job=$("$aethelos" run job.json 2>&1)
  check "$language: $* does the step of a paid job" "$job" "$answer"
  asked "$operator" "$job" "$answer"
  kill -0 "$worker" || fail "$language: the worker has ended: $(cat worker.log)"
  kill "$worker"
  worker=
}
works turner '' "$answer" "${work[@]}"
[ ! -x packed ] || works packer ',"encoding":"protobuf"' "$answer" ./packed
