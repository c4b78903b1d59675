#!/bin/bash
# aethelos bench overload: measures what the stack can do, offers five times that for a while, then nothing, and watches it drain. The stack is private and
# deleted afterwards.
set -eu
seconds=60 json=''
usage() {
  echo "usage: aethelos bench overload [--seconds N] [--json]"
  echo
  echo "Finds the saturated rate, publishes five times as many jobs for N seconds (60), then none. Measured: chains/s before, during and after, bells rung again, and"
  echo "the time until nothing stands. Exit status 0: ringing added under 10 %, over all goodput stayed above 90 % of the saturated rate, and everything drained."
}
. "$(dirname "$0")/aethelos-bench-options"
options "bench overload" seconds 2 86400 "$@"
. "$(dirname "$0")/aethelos-bench-stack"
stack_up
rung() { sed -n 's/.*"rang again".*"chains":\([0-9]*\).*/\1/p' "$AETHELOS_STATE"/log/meta-repair*.log | awk '{ s += $1 } END { print s + 0 }'; }
earned() { ask "SELECT coalesce(sum(count), 0) FROM figure WHERE name = 'PAYOUT_EARNED'"; }

say "warming up"
load --mode=bus --rate=200 --seconds=3 >/dev/null
say "what it can do, 20 s"
rate=$(load --mode=bus --window=2000 --seconds=20 | number chains_per_s)
offered=$((${rate%.*} * 5))
before=$(earned) bells=$(rung) start=$(date +%s%N)
seconds_since() { awk -v a="$start" -v b="$(date +%s%N)" 'BEGIN { printf "%.1f", (b - a) / 1e9 }'; }
say "$rate chains/s; now $offered/s are offered for $seconds s"
load --mode=bus --rate="$offered" --seconds="$seconds" --drain=900 >"$work/overload.json" || true
drained=$(seconds_since)
chains=$(($(earned) - before)) submitted=$(number submitted <"$work/overload.json") during=$(number chains_per_s <"$work/overload.json")
left=$(ask "SELECT count(*) FROM chain WHERE status = 'open' AND (waits_for IS NULL OR waits_for = 'payer')")
bells=$(($(rung) - bells))
faults=$(ask "SELECT count(*) FROM audit()")
after=$(awk -v c="$chains" -v d="$during" -v s="$seconds" -v t="$drained" 'BEGIN { printf "%.0f", (t > s ? (c - d * s) / (t - s) : 0) }')
goodput=$(awk -v c="$chains" -v t="$drained" 'BEGIN { printf "%.0f", c / t }')
# A chain is rung six times on its way: that is what ringing again is compared with.
added=$(awk -v b="$bells" -v c="$chains" 'BEGIN { printf "%.3f", b / (6 * c) }')
if [ -n "$json" ]; then
  printf '{"saturated":%s,"offered":%s,"seconds":%s,"submitted":%s,"during":%s,"after":%s,"goodput":%s,"drained_s":%s,"rung_again":%s,"rung_ratio":%s,"left":%s,"audit":%s}\n' \
    "$rate" "$offered" "$seconds" "$submitted" "$during" "$after" "$goodput" "$drained" "$bells" "$added" "$left" "$faults"
else
  echo "saturated $rate chains/s; offered $offered/s for $seconds s, $submitted submitted"
  echo "during the overload $during chains/s, afterwards $after, over all $goodput; drained after $drained s, $left left"
  echo "bells rung again: $bells, $added of those that chains ring on their way; the audit finds $faults faults"
fi
[ "$left" = 0 ] && [ "$faults" = 0 ] && awk -v a="$added" -v g="$goodput" -v r="$rate" 'BEGIN { exit !(a < 0.1 && g >= 0.9 * r) }'
