#!/bin/bash
# Backup and restore for real: chains stand at every step of their way, the stack dies for ever, and a new cluster with an empty broker takes over from
# the backup. All finish, nothing is done twice, readers go on.
# usage: backup.sh BIN_DIR
set -eu
bin=$1
home=$(cd "$(dirname "$0")/../.." && pwd)
export AETHELOS_HOME=$home
work=$(mktemp -d /tmp/aethelos-backup-XXXXXX)
export AETHELOS_STATE=$work/old
aethelos=$bin/aethelos
operator=
chmod 755 "$work" # started by root, the servers run as another user
finish() {
  status=$?
  [ -z "$operator" ] || kill "$operator" 2>/dev/null || true
  for state in "$work"/*/run/lock; do
    [ ! -e "$state" ] || AETHELOS_STATE=${state%/run/lock} "$aethelos" down >/dev/null 2>&1 || true
  done
  [ $status = 0 ] || tail -n 5 "$AETHELOS_STATE"/log/* "$work"/*.log 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

fail() { echo "NOT ok: $*"; exit 1; }
equal() { [ "$2" = "$3" ] || fail "$1: $2 is not $3"; echo "ok: $1"; }
refused() { # what, words, command...
  local what=$1 words=$2; shift 2
  "$@" >"$work/refused.log" 2>&1 && fail "$what"
  grep -q "$words" "$work/refused.log" || fail "$what: $(cat "$work/refused.log")"
  echo "ok: $what"
}
member() { grep -o "\"$1\":\"[^\"]*\"" | head -1 | cut -d'"' -f4; }
sql() { PGPASSFILE=$passfile psql -qAt -v ON_ERROR_STOP=1 "$url" -c "SET search_path = aethelos" -c "$1"; }
await() { # what, sql, answer
  local i now
  for i in $(seq 400); do now=$(sql "$2"); [ "$now" = "$3" ] && return; sleep 0.05; done
  fail "$1: $now, not $3"
}
pids() { "$aethelos" status --json | grep -o "\"name\":\"$1\",\"instance\":\"[^\"]*\",\"pid\":[0-9]*" | grep -o '[0-9]*$'; }
freeze() { kill -STOP $(pids "$1"); }
started() { # the stack of AETHELOS_STATE
  local status; status=$("$aethelos" status --json)
  url=$(member database_url <<<"$status") passfile=$(member database_passfile <<<"$status")
  public=$(member public_url <<<"$status") admin=$(member admin_url <<<"$status") token=$(member admin_token_file <<<"$status")
}
submit() { "$aethelos" submit --json "$@" 2>>"$work/submit.log" | member id; }
pay() { "$aethelos" pay "$1" --reference "bank $1" >"$work/pay.log" 2>&1; }
stands() { await "a chain stands at $2" "SELECT step FROM chain WHERE id = '$1' OR parent = '$1' AND 'payout' = '${3:-}' ORDER BY kind DESC LIMIT 1" "$2"; }
latest() { node -e "fetch('$admin/events?limit=1', {headers: {Authorization: 'Bearer ' + require('fs').readFileSync('$token', 'utf8').trim()}})
  .then(a => a.json()).then(a => console.log(a.latest))"; }
behind() { node -e "fetch('$admin/events?limit=1000&since=' + encodeURIComponent('$1'), {headers: {Authorization: 'Bearer ' + require('fs').readFileSync('$token', 'utf8').trim()}})
  .then(a => a.json()).then(a => console.log(a.items.length))"; }
# The content of every table but the one that a restore changes.
content() { sql "SELECT format('SELECT %L, count(*), md5(coalesce(string_agg(t::text, chr(10) ORDER BY t::text), '''')) FROM %I t;', relname, relname)
  FROM pg_class WHERE relnamespace = 'aethelos'::regnamespace AND relkind = 'r' AND relname <> 'generation' ORDER BY relname" >"$work/tables.sql"
  { echo 'SET search_path = aethelos;'; cat "$work/tables.sql"; } | PGPASSFILE=$passfile psql -qAt -v ON_ERROR_STOP=1 "$url"; }

AETHELOS_HOLD_MS=200 "$aethelos" up --port 31500 >/dev/null # what stands still is not waited for
started
: >"$work/calls"
node "$home/tests/suite/slow_operator.js" "$admin" "$token" "$work/go" "$work/calls" >"$work/operator.log" 2>&1 &
operator=$!
for i in $(seq 200); do grep -q ready "$work/operator.log" && break; sleep 0.05; done
grep -q ready "$work/operator.log" || fail "the operator: $(cat "$work/operator.log")"
echo '{"type":"test:slow","payload":{"text":"take your time"}}' >"$work/slow.json"
job=$home/examples/numeric-analysis.json

# From the end of the way to its beginning: the service that would move the chain on stands still.
done_job=$(submit "$job" --key finished); pay "$done_job"; stands "$done_job" PAYOUT_READY payout
"$aethelos" payouts mark "$("$aethelos" payouts --job "$done_job" --json | member id)" --reference "transfer 1" >/dev/null
ready=$(submit "$job"); pay "$ready"; stands "$ready" PAYOUT_READY payout
freeze payouts
earned=$(submit "$job"); pay "$earned"; stands "$earned" PAYOUT_EARNED payout
freeze ledger
executed=$(submit "$job"); pay "$executed"; stands "$executed" EXECUTION_COMPLETED
slow=$(submit "$work/slow.json"); pay "$slow"; stands "$slow" EXECUTION_STARTED
await "the operator has the run" "SELECT count(*) FROM operator_run WHERE operator = 'slow' AND state = 'accepted'" 1
freeze execution
paid=$(submit "$job"); pay "$paid"; stands "$paid" PAYMENT_CONFIRMED
unpaid=$(submit "$job"); stands "$unpaid" PAYMENT_INITIATED
evident=$(submit "$job"); stands "$evident" PAYMENT_INITIATED
freeze payments
pay "$evident" || true
await "the evidence stands in the inbox" "SELECT count(*) FROM evidence_inbox WHERE chain_id = '$evident'" 1
priced=$(submit "$job"); stands "$priced" PRICED
freeze pricing
created=$(submit "$job" --key begun); stands "$created" JOB_CREATED
await "the feed is at the end" "SELECT sum(count) FROM figure" "$(sql 'SELECT count(*) FROM event')"
cursor=$(latest)
for service in meta-repair feed intake board; do freeze $service; done
events=$(sql 'SELECT count(*) FROM event') steps=$(sql "SELECT count(DISTINCT step) FROM chain WHERE status = 'open'")
equal "chains stand at every step where one can stand" "$steps" 8

refused "a backup overwrites nothing" "there already" "$aethelos" backup "$work/old"
"$aethelos" backup "$work/backup" --secrets >/dev/null
equal "nobody else reads a backup" "$(stat -c %a "$work/backup" "$work/backup/database.dump" "$work/backup/roles.sql" | tr '\n' ' ')" "700 600 600 "
(cd "$work/backup" && sha256sum --quiet -c SHA256SUMS) || fail "the sums are those of the files"
refused "a restore overwrites nothing" "holds Aethelos already" env AETHELOS_DATABASE_URL="$url" PGPASSFILE="$passfile" "$aethelos" restore "$work/backup"
refused "not while a stack runs there" "a stack runs" "$aethelos" restore "$work/backup"
cp -r "$work/backup" "$work/damaged"
printf x | dd of="$work/damaged/database.dump" bs=1 seek=5000 conv=notrunc status=none
refused "a damaged backup is refused" "not what the backup wrote" "$aethelos" restore "$work/damaged" --state "$work/none"

# Into another database, named by its address: of the same cluster, beside the one that is there.
before=$(content)
sql 'CREATE DATABASE copy'
old_url=$url url="$url dbname=copy"
AETHELOS_DATABASE_URL=$url PGPASSFILE=$passfile "$aethelos" restore "$work/backup" >"$work/copy.log" || fail "$(cat "$work/copy.log")"
equal "every row of every table comes back" "$(content)" "$before"
equal "a restore opens a generation, whatever the cluster" "$(sql 'SELECT max(n) FROM generation')" 2
AETHELOS_DATABASE_URL=$url PGPASSFILE=$passfile "$aethelos" migrate --check || fail "a restored database is of this version"
url=$old_url

# The machine burns down.
doomed=$("$aethelos" status --json | grep -o '"pid":[0-9]*' | grep -o '[0-9]*$')
kill -9 $("$aethelos" status --json | grep -o '"pid":[0-9]*,"engines"' | grep -o '[0-9]*') $doomed
old=$work/old
export AETHELOS_STATE=$work/new
"$aethelos" restore "$work/backup" >"$work/restore.log" || fail "$(cat "$work/restore.log")"
grep -q "restored $events events" "$work/restore.log" || fail "a restore says what came back: $(cat "$work/restore.log")"
"$aethelos" up --port 31500 >/dev/null
started
equal "the admin token is the old one" "$(cat "$token")" "$(cat "$old/secrets/admin-token")"
equal "so is the publishers' password" "$(cat "$AETHELOS_STATE/secrets/nats/default")" "$(cat "$old/secrets/nats/default")"
equal "the generation is new" "$(sql 'SELECT max(n) FROM generation')" 2
equal "the same key gives the same job" "$(submit "$job" --key finished) $(submit "$job" --key begun)" "$done_job $created"

touch "$work/go"
for id in "$unpaid" "$priced" "$created"; do stands "$id" PAYMENT_INITIATED; pay "$id"; done
await "all jobs complete" "SELECT count(*) FROM chain WHERE kind = 'job' AND status = 'completed'" 10
await "all payouts are ready or done" "SELECT count(*) FROM chain WHERE kind = 'payout' AND step IN ('PAYOUT_READY', 'PAYOUT_DONE')" 10
equal "the run at the operator was sent once" "$(wc -l <"$work/calls")" 1
equal "the invariants hold" "$(sql 'SELECT count(*) FROM audit()')" 0
await "the feed went on behind its checkpoint" "SELECT sum(count) = (SELECT count(*) FROM event) FROM figure" t
equal "a cursor of before goes on" "$(behind "$cursor")" "$(sql "SELECT count(*) - $events FROM event")"
"$aethelos" backup "$work/second" >/dev/null
cmp "$work/backup/roles.sql" "$work/second/roles.sql" || fail "roles and their settings come back"
[ ! -e "$work/second/secrets" ] || fail "secrets only when asked for"
echo "ok: roles and their settings come back"
