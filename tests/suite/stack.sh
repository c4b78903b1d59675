#!/bin/bash
# The supervisor and the migration runner under ill treatment: killed engines, a killed supervisor, occupied ports, edited history, a restored cluster.
# usage: stack.sh BIN_DIR
set -eu
bin=$1
home=$(cd "$(dirname "$0")/../.." && pwd)
export AETHELOS_HOME=$home
work=$(mktemp -d /tmp/aethelos-up-XXXXXX)
export AETHELOS_STATE=$work/state
aethelos=$bin/aethelos
chmod 755 "$work" # started by root, the servers run as another user
finish() {
  status=$?
  for stack in state other; do "$aethelos" down --state "$work/$stack" >/dev/null 2>&1 || true; done
  [ ! -f "$work/path/pid" ] || kill "$(cat "$work/path/pid")" 2>/dev/null || true
  [ $status = 0 ] || tail -n 5 "$AETHELOS_STATE"/log/* 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

fail() { echo "NOT ok: $*"; exit 1; }
member() { grep -o "\"$1\":\"[^\"]*\"" | head -1 | cut -d'"' -f4; }
pid_of() { "$aethelos" status --json | grep -o "\"name\":\"$1\",\"instance\":\"[^\"]*\",\"pid\":[0-9]*" | head -1 | grep -o '[0-9]*$'; }
pids() { "$aethelos" status --json | grep -o '"pid":[0-9]*' | grep -o '[0-9]*$'; }
wait_for() { # what, command...
  local what=$1 i; shift
  for i in $(seq 300); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done
  fail "$what"
}
started_again() { local now; now=$(pid_of "$1"); [ -n "$now" ] && [ "$now" != "$2" ]; }
all_gone() { local p; for p in $1; do kill -0 "$p" 2>/dev/null && return 1; done; return 0; }
job() { "$aethelos" run "$home/examples/numeric-analysis.json" 2>&1 | grep -q owner_payable || fail "$1"; echo "ok: $1"; }

"$aethelos" up --port 31300 >/dev/null
[ "$("$aethelos" up --port 31300 --json | member public_url)" = "$("$aethelos" status --json | member public_url)" ] || fail "a second up shows the first stack"
echo "ok: a second up shows the first stack"
job "a job in the first stack"
said=$("$aethelos" up --port 31300 --state "$work/other")
case $said in *"port 31300 is occupied"*"is taken for the bus"*) echo "ok: occupied ports are said" ;; *) fail "occupied ports are said: $said" ;; esac
"$aethelos" payouts --state "$work/other" | grep -q "no payouts yet" || fail "--state says which stack is meant"
"$aethelos" payouts --state "" >/dev/null 2>&1 && fail "--state needs a directory"
"$aethelos" payouts | grep -q "EUR 24.30" || fail "without --state it is the first one"
echo "ok: --state says which stack is meant"
"$aethelos" down --state "$work/other" >/dev/null

# Between finding a port free and listening on it somebody else may take it: his nats-server must not pass for ours.
mkdir "$work/path"
cat >"$work/path/nats-server" <<'END'
#!/bin/bash
here=$(dirname "$0") port=$(grep -o '^listen: "127.0.0.1:[0-9]*' "${@: -1}" | grep -o '[0-9]*$')
PATH=${PATH#"$here":}:/usr/sbin
if mkdir "$here/once" 2>/dev/null; then
  nats-server -a 127.0.0.1 -p "$port" >/dev/null 2>&1 &
  echo $! >"$here/pid"
  for i in $(seq 100); do read -r -n 4 said <"/dev/tcp/127.0.0.1/$port" && [ "$said" = INFO ] && break; sleep 0.05; done
  sleep 0.5
fi 2>/dev/null
exec nats-server "$@"
END
chmod 755 "$work/path" "$work/path/nats-server"
chmod 1777 "$work/path" # the servers of a stack that root starts run as another user
PATH=$work/path:$PATH "$aethelos" up --port 31340 --state "$work/other" >/dev/null
AETHELOS_STATE=$work/other job "a port that was taken in between"
"$aethelos" down --state "$work/other" >/dev/null

for engine in postgresql nats-server intake; do
  pid=$(pid_of $engine)
  kill -9 "$pid"
  wait_for "$engine is started again" started_again $engine "$pid"
  wait_for "$engine works again" "$aethelos" run "$home/examples/numeric-analysis.json"
  echo "ok: $engine is started again after a kill"
done

before=$(pids)
kill -9 "$("$aethelos" status --json | grep -o '"pid":[0-9]*,"engines"' | grep -o '[0-9]*')"
wait_for "nothing outlives its supervisor" all_gone "$before"
echo "ok: nothing outlives its supervisor"
"$aethelos" status >/dev/null && fail "a stack that was killed does not count as running"
# Changed meanwhile, as docs/operations.md says: the admin token, and the passwords of a service.
cp "$AETHELOS_STATE/secrets/admin-token" "$work/old-token"
rm "$AETHELOS_STATE"/secrets/{admin-token,nats/pricing,roles/aethelos_pricing}
"$aethelos" up --port 31300 >/dev/null
[ "$("$aethelos" payouts --json | grep -o '"status":"ready"' | wc -l)" -ge 3 ] || fail "what was booked is still there"
job "work goes on after the supervisor was killed"
admin=$("$aethelos" status --json | member admin_url)
with_token() { AETHELOS_ADMIN_URL=$admin AETHELOS_ADMIN_TOKEN_FILE=$1 "$aethelos" payouts >/dev/null 2>&1; }
with_token "$work/old-token" && fail "the old token is refused"
with_token "$AETHELOS_STATE/secrets/admin-token" || fail "the new token is taken"
echo "ok: token and passwords are changed by removing them before a start"

# The migration runner, against the database of this stack.
url=$("$aethelos" status --json | member database_url) passfile=$("$aethelos" status --json | member database_passfile)
export PGPASSFILE=$passfile
cp -r "$home/migrations" "$work/history"
migrate() { "$bin/aethelos-migrate" --database-url="$url" --passfile="$passfile" --directory="$work/history" "$@" >"$work/migrate.log" 2>&1; }
refused() { migrate && fail "$1"; grep -q "$2" "$work/migrate.log" || fail "$1: $(cat "$work/migrate.log")"; echo "ok: $1"; }
migrate --check || fail "nothing is to be applied: $(cat "$work/migrate.log")"
last=$(cd "$work/history" && ls [0-9]*.sql | tail -1)
next=$(printf '%04d_next.sql' $((10#${last%%_*} + 1)))
echo 'CREATE TABLE next_one (a int); SELECT 1 / 0;' >"$work/history/$next"
status=0; migrate --check || status=$?
[ $status = 3 ] && grep -q "^$next$" "$work/migrate.log" || fail "check names what would be applied"
echo 'CREATE INDEX slow ON event (type); ALTER TABLE chain ADD COLUMN quick text;' >"$work/history/$next"
migrate --check || true
grep -q '^  LONG event: while an index is built from every row, who writes waits, [0-9]* rows, ' "$work/migrate.log" || fail "check says what takes long: $(cat "$work/migrate.log")"
grep -q '^       chain: for a moment, everybody waits, ' "$work/migrate.log" || fail "check says what takes a moment: $(cat "$work/migrate.log")"
echo 'CREATE TABLE next_one (a int); SELECT 1 / 0;' >"$work/history/$next"
refused "a migration that fails is undone" "division by zero"
echo 'CREATE TABLE next_one (a int); COMMIT;' >"$work/history/$next"
refused "a migration does not end its transaction" "ended its transaction"
psql -qAt "$url" -c 'DROP TABLE aethelos.next_one'
rm "$work/history/$next"
mv "$work/history/$last" "$work/last"
refused "history without one of its files is refused" "its file is not here"
mv "$work/last" "$work/history/$last"
echo '-- edited' >>"$work/history/$last"
refused "edited history is refused" "was edited"
cp "$home/migrations/$last" "$work/history/$last"
mv "$work/history/$last" "$work/history/${next}"
refused "a gap in the numbers is refused" "numbers have no gap"
mv "$work/history/$next" "$work/history/$last"
echo 'CREATE OR REPLACE FUNCTION next_one() RETURNS integer LANGUAGE sql AS $$ SELECT 1 $$;' >"$work/history/functions/next_one.sql"
migrate || fail "a new function: $(cat "$work/migrate.log")"
sed -i 's/SELECT 1/SELECT 2/' "$work/history/functions/next_one.sql"
status=0; migrate --check || status=$?
[ $status = 3 ] && grep -q "^functions/next_one.sql$" "$work/migrate.log" || fail "check names a function that has changed"
migrate || fail "a changed function: $(cat "$work/migrate.log")"
[ "$(psql -qAt "$url" -c 'SELECT aethelos.next_one()')" = 2 ] || fail "a function follows its file"
rm "$work/history/functions/next_one.sql"
migrate --check || fail "a function without a file is left alone: $(cat "$work/migrate.log")"
echo "ok: a function follows its file"
# Somebody who takes the same tables in the other order, and is more patient: PostgreSQL ends the migration.
psql -qAt "$url" -c 'CREATE TABLE aethelos.knot_a (); CREATE TABLE aethelos.knot_b ()'
holds_a() { [ "$(psql -qAt "$url" -c "SELECT count(*) FROM pg_locks WHERE granted AND relation = 'aethelos.knot_a'::regclass")" = 1 ]; }
psql -qAt "$url" -c "SET deadlock_timeout = '1 h'" -c 'BEGIN; LOCK TABLE aethelos.knot_a; DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted
  AND relation = $r$aethelos.knot_a$r$::regclass) LOOP PERFORM pg_sleep(0.02); END LOOP; END $$; LOCK TABLE aethelos.knot_b; COMMIT' &
other=$!
wait_for "another session holds a table" holds_a
echo 'LOCK TABLE knot_b; DROP TABLE knot_a, knot_b;' >"$work/history/$next"
migrate || fail "a migration that runs into a deadlock is tried again: $(cat "$work/migrate.log")"
grep -q 'deadlock detected' "$work/migrate.log" && grep -q 'tried again' "$work/migrate.log" || fail "there was no deadlock: $(cat "$work/migrate.log")"
wait $other || fail "who shared the deadlock went on"
rm "$work/history/$next"
psql -qAt "$url" -c "DELETE FROM aethelos.schema_migration WHERE name = '$next'"
echo "ok: a migration that runs into a deadlock is tried again"
psql -qAt "$url" -c 'SET session_replication_role = replica; UPDATE aethelos.generation SET system_identifier = 1'
migrate || fail "a new generation: $(cat "$work/migrate.log")"
[ "$(psql -qAt "$url" -c 'SELECT max(n) FROM aethelos.generation')" = 2 ] || fail "another cluster under the data opens a generation"
echo "ok: another cluster under the data opens a generation"
job "work goes on in the new generation"

# SCHED_BATCH is 3 (proc(5), stat, field 41).
for name in postgresql nats-server intake payments; do
  [ "$(sed 's/([^)]*)/x/' "/proc/$(pid_of $name)/stat" | cut -d' ' -f41)" = 3 ] || fail "$name does not preempt what the stack runs"
done
echo "ok: what the stack runs does not preempt what it runs"

psql -qAt "$url" -c "UPDATE aethelos.operator SET refused_in_a_row = 5"
grep -q "has refused 5 jobs, and done none meanwhile" <<<"$("$aethelos" operators)" || fail "an operator that refuses everything is said"

before=$(pids)
"$aethelos" down >/dev/null
wait_for "down ends everything" all_gone "$before"
"$aethelos" down >/dev/null || fail "down twice"
"$aethelos" status >/dev/null && fail "status after down"
echo "ok: down"
