#!/bin/bash
# aethelos bench cluster: a broker of three nodes and two instances of every service on this machine; under load each node and each instance is killed, one
# at a time, and started again. Measures chains/s before, during and after, and compares every receipt with the store. Everything is private and deleted
# afterwards.
set -eu
seconds=20 json=''
usage() {
  echo "usage: aethelos bench cluster [--seconds N] [--json]"
  echo
  echo "Measures for N seconds (20), kills each of three broker nodes (one loses its storage) and each of two instances of every service under load, and measures for"
  echo "N seconds again. Takes about 2 N + 100 seconds. Exit status 0: no receipt was for nothing, every chain came to its end, audit() finds nothing."
}
. "$(dirname "$0")/aethelos-bench-options"
options "bench cluster" seconds 5 600 "$@"
. "$(dirname "$0")/aethelos-bench-stack"
declare -A pids
finish_cluster() {
  [ -z "${AETHELOS_KEEP_LOGS:-}" ] || cp "$work"/*.log "$AETHELOS_KEEP_LOGS" || true
  [ ${#pids[@]} = 0 ] || kill -KILL "${pids[@]}" 2>/dev/null || true
  [ -z "${postgres:-}" ] || { kill -INT "$postgres" 2>/dev/null && wait "$postgres" 2>/dev/null; } || true
  finish
}
trap finish_cluster EXIT
services="pricing payments execution ledger payouts meta-repair feed webhooks intake board"

# The stack makes cluster, secrets, roles and users; then this script is its supervisor.
stack_up
"$bin/aethelos" down >/dev/null
mkdir "$work/run"
as_owner() { local user; user=$(stat -c %U "$AETHELOS_STATE/postgresql"); if [ "$(id -un)" = "$user" ]; then "$@"; else exec setpriv --reuid="$user" --regid="$user" --init-groups "$@"; fi; }
as_owner "$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)/postgres" -D "$AETHELOS_STATE/postgresql" >"$work/postgresql.log" 2>&1 &
postgres=$!

urls='' routes=''
for n in 1 2 3; do urls+=${urls:+,}nats://127.0.0.1:$((23220 + n)) routes+="${routes:+, }\"nats://127.0.0.1:$((23230 + n))\""; done
healthy() { # node
  { exec 3<>"/dev/tcp/127.0.0.1/$((23240 + $1))" && printf 'GET /healthz HTTP/1.0\r\n\r\n' >&3 && head -1 <&3 | grep -q ' 200 ' && exec 3>&-; } 2>/dev/null
}
await() { # what, command...
  local what=$1 i; shift
  for i in $(seq 2400); do "$@" && return; sleep 0.05; done
  say "$what: not within 2 minutes"
  exit 1
}
node_start() {
  printf '%s\n' "server_name: \"node$1\"" "listen: \"127.0.0.1:$((23220 + $1))\"" "http: \"127.0.0.1:$((23240 + $1))\"" 'max_payload: 2MB' 'no_sublist_cache: true' \
    "jetstream { store_dir: \"$work/node$1\", max_memory_store: 512MB, max_file_store: 4GB }" \
    "include \"nats-permissions.conf\"" "cluster { name: \"aethelos\", listen: \"127.0.0.1:$((23230 + $1))\", routes: [ $routes] }" \
    >"$AETHELOS_STATE/nats/node$1.conf" # beside the permissions that it includes
  PATH=$PATH:/usr/sbin nats-server -c "$AETHELOS_STATE/nats/node$1.conf" >>"$work/node$1.log" 2>&1 &
  pids[node$1]=$!
  disown
}
service_start() { # service, number
  local port=23000
  [ "$1" != board ] || port=23010
  rm -f "$work/run/$1-$2"
  AETHELOS_DATABASE_URL=${database%% user=*} AETHELOS_DATABASE_PASSFILE=$passfile AETHELOS_NATS_URL=$urls AETHELOS_NATS_REPLICAS=3 \
    AETHELOS_NATS_PASSWORD_FILE=$AETHELOS_STATE/secrets/nats/$1 AETHELOS_READY_FILE=$work/run/$1-$2 AETHELOS_PORT=$((port + $2)) \
    AETHELOS_TOKEN_FILE=$AETHELOS_STATE/secrets/admin-token "$bin/aethelos-$1" >>"$work/$1-$2.log" 2>&1 &
  pids[$1-$2]=$!
  disown
}
working() { [ -e "$work/run/$1-$2" ]; }
now() { ask "SELECT clock_timestamp()"; }

await "PostgreSQL" ask "SELECT 1" >/dev/null 2>&1
for n in 1 2 3; do node_start $n; done
for n in 1 2 3; do await "node $n" healthy $n; done
for n in 1 2; do for s in $services; do service_start $s $n; done; done
for n in 1 2; do for s in $services; do await "$s $n" working $s $n; done; done
say "three nodes and two instances of every service work"

"$bin/aethelos-load" --public=http://127.0.0.1:23001 --admin=http://127.0.0.1:23011 --token="$(cat "$AETHELOS_STATE/secrets/admin-token")" --nats="$urls" \
  --nats-user=default --nats-password="$(cat "$AETHELOS_STATE/secrets/nats/default")" --database="$database passfile=$passfile options=-csearch_path=aethelos" \
  --mode=bus --window=500 --careful=1 --seconds=1800 --drain=120 >"$work/load.json" 2>"$work/load.log" &
load=$!
pids[load]=$load
sleep 5 # the first seconds warm up
marks=("$(now)")
say "before, $seconds s"
sleep "$seconds"
marks+=("$(now)")
for n in 1 2 3; do
  say "node $n is killed$([ $n != 2 ] || echo ' and its storage deleted')"
  kill -KILL "${pids[node$n]}"
  [ $n != 2 ] || rm -rf "$work/node$n"
  sleep 3
  node_start $n
  await "node $n" healthy $n
  sleep 3 # it works with the others again before the next one goes
  marks+=("$(now)")
done
for n in 1 2; do
  say "instance $n of every service is killed, one after the other"
  for s in $services; do
    kill -KILL "${pids[$s-$n]}"
    sleep 1
    service_start "$s" $n
    await "$s $n" working "$s" $n
  done
done
marks+=("$(now)")
say "after, $seconds s"
sleep "$seconds"
marks+=("$(now)")
kill -TERM "$load"
status=0
wait "$load" || status=$?
unset "pids[load]"
[ -s "$work/load.json" ] || { cat "$work/load.log" >&2; exit 1; }
[ $status = 0 ] || { say "the load ended with status $status: $(tail -3 "$work/load.log")"; }

per_second() { ask "SELECT round(count(*) / extract(epoch FROM timestamptz '$2' - timestamptz '$1')) FROM event WHERE type = 'PAYOUT_EARNED' AND at BETWEEN '$1' AND '$2'"; }
# The longest time without an end of a chain that reaches into the phase, whole.
pause() { ask "SELECT coalesce(round(max(extract(epoch FROM at - before)), 1), 0) FROM (SELECT at, lag(at) OVER (ORDER BY at) AS before FROM event WHERE type = 'PAYOUT_EARNED') g WHERE before < '$2' AND at > '$1'"; }
rates=() pauses=()
for i in 0 1 2 3 4 5; do rates+=("$(per_second "${marks[i]}" "${marks[i + 1]}")") pauses+=("$(pause "${marks[i]}" "${marks[i + 1]}")"); done
left=$(ask "SELECT count(*) FROM chain WHERE status = 'open' AND (waits_for IS NULL OR waits_for = 'payer')")
faults=$(ask "SELECT count(*) FROM audit()")
receipted=$(number receipted <"$work/load.json") lost=$(number lost <"$work/load.json") wrong=$(number wrong <"$work/load.json") again=$(number said_again <"$work/load.json")
submitted=$(number submitted <"$work/load.json") p99=$(number p99_ms <"$work/load.json")
if [ -n "$json" ]; then
  printf '{"chains_per_s":[%s],"longest_pause_s":[%s],"submitted":%s,"receipted":%s,"lost":%s,"wrong":%s,"said_again":%s,"p99_ms":%s,"left":%s,"audit":%s}\n' \
    "$(IFS=,; echo "${rates[*]}")" "$(IFS=,; echo "${pauses[*]}")" "$submitted" "$receipted" "$lost" "$wrong" "$again" "$p99" "$left" "$faults"
else
  echo "                                chains/s   longest pause"
  for what in before "node 1 killed" "node 2 killed, storage deleted" "node 3 killed" "each of 20 instances killed" after; do
    printf '%-32s%7s%13s s\n' "$what" "${rates[0]}" "${pauses[0]}"
    rates=("${rates[@]:1}") pauses=("${pauses[@]:1}")
  done
  echo "$submitted jobs submitted, $receipted receipted, $lost of them lost, $wrong wrong receipts; $again submissions said again; p99 $p99 ms"
  echo "$left chains left; the audit finds $faults faults"
fi
[ $status = 0 ] && [ "$left" = 0 ] && [ "$faults" = 0 ] && [ "$lost" = 0 ]
