#!/bin/bash
# aethelos bench finished: what a scan of meta-repair costs while nothing is finished, and what with millions of finished chains. The stack is private and
# deleted afterwards.
set -eu
chains=10000000 json=''
usage() {
  echo "usage: aethelos bench finished [--chains N] [--json]"
  echo
  echo "2000 chains wait for their payers. Measured: scans by meta-repair (auto_repair, 20 of them) alone, and again beside N finished chains (10000000): the median time, and"
  echo "rows of chain read. Exit status 0: beside N finished chains no scan read the whole table, and they read at most three times the rows of those alone: the watch"
  echo "goes on by its clock between them, and a slower machine gives it more turns."
}
. "$(dirname "$0")/aethelos-bench-options"
options "bench finished" chains 1000 100000000 "$@"
. "$(dirname "$0")/aethelos-bench-stack"
up
load --mode=bus --fill=2000 --unpaid=1 >&2

# Milliseconds of the median scan, whole reads of the table, rows read by index. The counts of a session are there a second after its last statement.
scans() {
  ask "SELECT pg_stat_reset()" >/dev/null
  for _ in $(seq 20); do
    local from; from=$(date +%s%N)
    "$bin/aethelos" repair --json >/dev/null
    awk -v a="$from" -v b="$(date +%s%N)" 'BEGIN { printf "%.1f\n", (b - a) / 1e6 }'
  done | sort -n | sed -n 10p
  sleep 3
  ask "SELECT seq_scan || ' ' || coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relid = 'chain'::regclass"
}
say "20 scans with nothing finished"
read -r alone_ms _ alone_rows <<<"$(scans | tr '\n' ' ')"
say "$chains finished chains are written"
for ((at = 0; at < chains; at += 500000)); do
  n=$((chains - at < 500000 ? chains - at : 500000))
  ask "INSERT INTO chain (id, kind, step, version, status, lane, client, amount, currency, created_at, updated_at)
       SELECT gen_random_uuid(), 'job', 'REVENUE_BOOKED', 11, 'completed', 'normal', 'default', 100, 'EUR', now(), now() FROM generate_series(1, $n)" >/dev/null
done
ask "ANALYZE chain" >/dev/null
say "20 scans beside them"
read -r beside_ms whole beside_rows <<<"$(scans | tr '\n' ' ')"
if [ -n "$json" ]; then
  printf '{"finished":%s,"alone_ms":%s,"alone_rows":%s,"beside_ms":%s,"beside_rows":%s,"whole_reads":%s}\n' "$chains" "$alone_ms" "$alone_rows" "$beside_ms" "$beside_rows" "$whole"
else
  echo "a scan with nothing finished: $alone_ms ms, 20 scans read $alone_rows rows of chain"
  echo "beside $chains finished chains: $beside_ms ms, 20 scans read $beside_rows rows, and the whole table $whole times"
fi
[ "$whole" = 0 ] && awk -v a="$alone_rows" -v b="$beside_rows" 'BEGIN { exit b > 3 * a }'
