#!/bin/bash
# aethelos bench: measures whole paid chains on a private stack (PostgreSQL with fsync and synchronous_commit on, its own broker), and in the same run what the
# same PostgreSQL can do at most, so that the figure is a ratio. Jobs, prices and confirmations are real. The stack is deleted afterwards.
set -eu
seconds=20 json=''
case ${1:-} in wipe | overload | finished | cluster) exec "$0-$1" "${@:2}" ;; esac
usage() {
  echo "usage: aethelos bench [--seconds N] [--json]"
  echo "       aethelos bench wipe [--chains N]       the broker loses everything while chains stand"
  echo "       aethelos bench overload [--seconds N]  five times what it can do, then nothing"
  echo "       aethelos bench finished [--chains N]   what a scan costs beside millions of finished chains"
  echo "       aethelos bench cluster [--seconds N]   three broker nodes, two instances of each service, each killed once"
  echo
  echo "Measures, on a stack of its own: saturated chains/s, latency at 50/s and 1,000/s, over the bus and over HTTP, CPU by process, transactions and WAL bytes"
  echo "a chain, and the rate of bare inserts of the same events (the ceiling). Takes about 8 times N seconds; N is 20 unless given."
}
. "$(dirname "$0")/aethelos-bench-options"
options "bench" seconds 2 86400 "$@"

. "$(dirname "$0")/aethelos-bench-stack"
stack_up

say "warming up"
load --mode=bus --rate=200 --seconds=3 >/dev/null
runs=''
for what in "http 50" "bus 50" "http 1000" "bus 1000"; do
  set -- $what
  say "$1 at $2/s, $seconds s"
  runs+=$(load --mode="$1" --rate="$2" --seconds="$seconds")$'\n'
done
say "http saturated, $seconds s"
runs+=$(load --mode=http --window=512 --seconds="$seconds")$'\n'
say "bus saturated, $seconds s"
before=$(cpu) wal=$(ask "SELECT pg_current_wal_lsn()") commits=$(ask "SELECT sum(xact_commit) FROM pg_stat_database")
saturated=$(load --mode=bus --window=2000 --seconds="$seconds")
after=$(cpu)
chains=$(number done <<<"$saturated")
wal_bytes=$(ask "SELECT round(pg_wal_lsn_diff(pg_current_wal_lsn(), '$wal') / $chains)")
commits=$(ask "SELECT round((sum(xact_commit) - $commits) / $chains::numeric, 3) FROM pg_stat_database")
runs+=$saturated$'\n'
say "ceiling: bare inserts of the same events, two connections"
ceiling=$(load --ceiling="$seconds")
rate=$(number chains_per_s <<<"$saturated") top=$(number chains_per_s <<<"$ceiling")
ratio=$(awk -v a="$rate" -v b="$top" 'BEGIN { printf "%.3f", a / b }')
used=$(join -j 1 <(sort <<<"$before") <(sort <<<"$after") | awk -v n="$chains" '{ printf "%s{\"name\":\"%s\",\"us_per_chain\":%.0f}", (NR > 1 ? "," : ""), $1, ($3 - $2) * 1000000 / n }')

if [ -n "$json" ]; then
  printf '{"runs":[%s],"ceiling":%s,"ratio":%s,"wal_bytes_per_chain":%s,"commits_per_chain":%s,"cpu":[%s]}\n' \
    "$(paste -sd, <<<"${runs%$'\n'}")" "$ceiling" "$ratio" "$wal_bytes" "$commits" "$used"
  exit 0
fi
echo "admission  wanted/s  chains/s   p50 ms   p99 ms   max ms"
while read -r line; do
  [ -n "$line" ] || continue
  wanted=$(number rate <<<"$line")
  printf '%-9s %9s %9s %8s %8s %8s\n' "$(first mode <<<"$line")" "$([ "$wanted" = 0 ] && echo all || echo "$wanted")" "$(number chains_per_s <<<"$line")" \
    "$(number p50_ms <<<"$line")" "$(number p99_ms <<<"$line")" "$(number max_ms <<<"$line")"
done <<<"$runs"
echo
echo "ceiling    $(number rows_per_s <<<"$ceiling") rows/s, $top chains/s; the bus run is $ratio of it"
echo "a chain    $commits commits, $wal_bytes bytes of WAL"
echo "CPU        $(sed 's/{"name":"\([^"]*\)","us_per_chain":\([0-9]*\)},*/\1 \2 us, /g; s/, $//' <<<"$used") a chain; the load itself $(number load_us_per_chain <<<"$saturated") us"
echo "machine    $(nproc) processors, $(first version <<<'"version":"'"$("$bin/aethelos" --version 2>/dev/null | head -1)"'"'), $("$(dirname "$(ls /usr/lib/postgresql/*/bin/postgres | tail -1)")/postgres" --version)"
