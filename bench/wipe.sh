#!/bin/bash
# aethelos bench wipe: chains stand at two places because their services are frozen; then the broker is killed, its storage deleted, and the services go
# on. Measures the time until every chain has moved since, and until nothing stands. The stack is private and deleted afterwards.
set -eu
chains=100000 json=''
usage() {
  echo "usage: aethelos bench wipe [--chains N] [--json]"
  echo
  echo "Half of N chains (100000) stand paid before execution, half admitted before pricing. The broker is killed and loses its storage. Measured: seconds until"
  echo "each chain that waits for nobody has moved since, and until none of them stands. Exit status 0: all moved within 60 s and all came to their end."
}
. "$(dirname "$0")/aethelos-bench-options"
options "bench wipe" chains 2 100000000 "$@"
. "$(dirname "$0")/aethelos-bench-stack"
up
pid_of() { grep -o "\"name\":\"$1\",\"instance\":\"[^\"]*\",\"pid\":[0-9]*" <<<"$status" | grep -o '[0-9]*$'; }
signal() { kill "-$1" $(pid_of "$2"); }
frozen=''
trap 'for s in $frozen; do signal CONT $s 2>/dev/null || true; done; finish' EXIT

half=$((chains / 2))
frozen=execution; signal STOP execution
say "$half chains are paid and stand before execution"
load --mode=bus --fill=$half >&2
frozen="execution pricing"; signal STOP pricing
say "$half chains are admitted and stand before pricing"
load --mode=bus --fill=$half --unpaid=1 >&2
standing=$(ask "SELECT count(*) FROM chain WHERE status = 'open' AND waits_for IS NULL")
[ "$standing" -ge $((2 * half)) ] || { say "only $standing chains stand"; exit 1; }

say "the broker is killed and its storage deleted"
broker=$(pid_of nats-server)
kill -KILL "$broker"
rm -rf "$AETHELOS_STATE"/nats/storage
wiped=$(ask "SELECT clock_timestamp()") start=$(date +%s%N)
for s in $frozen; do signal CONT $s; done
frozen=''
since() { awk -v a="$start" -v b="$(date +%s%N)" 'BEGIN { printf "%.1f", (b - a) / 1e9 }'; }
moving='' done='' looks=0
while [ -z "$done" ]; do
  read -r unmoved left <<<"$(ask "SELECT count(*) FILTER (WHERE updated_at < '$wiped'), count(*) FROM chain WHERE status = 'open' AND waits_for IS NULL" | tr '|' ' ')"
  [ -n "$moving" ] || [ "$unmoved" != 0 ] || { moving=$(since); say "all are moving after $moving s"; }
  [ "$left" != 0 ] || done=$(since)
  awk -v t="$(since)" 'BEGIN { exit t < 600 }' && { say "after $(since) s $unmoved have not moved and $left stand"; exit 1; }
  [ $((++looks % 10)) != 0 ] || say "after $(since) s $unmoved have not moved, $left stand"
  sleep 0.5
done
faults=$(ask "SELECT count(*) FROM audit()")
if [ -n "$json" ]; then
  printf '{"chains":%s,"moving_s":%s,"done_s":%s,"audit":%s}\n' "$standing" "$moving" "$done" "$faults"
else
  echo "$standing chains stood; all were moving after $moving s and at their end, or waiting for their payer, after $done s; the audit finds $faults faults"
fi
[ "$faults" = 0 ] && awk -v t="$moving" 'BEGIN { exit t >= 60 }'
