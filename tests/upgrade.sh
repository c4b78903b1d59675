#!/bin/bash
# A rolling upgrade: a stack of an earlier commit works; this commit's migrations are applied under it; this commit's services join, so that both
# versions share the chains; the old ones leave. Jobs go through all the time, and nothing is lost or done twice. Builds both, so it is a command of
# its own and no part of the test run.
# usage: tests/upgrade.sh [COMMIT]      default: the commit before this one
set -eu
home=$(cd "$(dirname "$0")/.." && pwd)
commit=$(git -C "$home" rev-parse --short "${1:-HEAD~1}")
work=$(mktemp -d /tmp/aethelos-upgrade-XXXXXX)
chmod 755 "$work" # started by root, the servers run as another user
export AETHELOS_STATE=$work/state
new_bin=$home/build/release/bin old_bin=$work/old/build/release/bin
joined=()
finish() {
  status=$?
  for p in "${joined[@]}"; do kill -9 "$p" 2>/dev/null || true; done
  [ $status = 0 ] || tail -n 3 "$work"/*.log "$AETHELOS_STATE"/log/*.log 2>/dev/null || true
  AETHELOS_HOME=$work/old "$old_bin/aethelos" down >/dev/null 2>&1 || true
  git -C "$home" worktree remove --force "$work/old" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
fail() { echo "NOT ok: $*"; exit 1; }
build() { # checkout
  (cd "$1" && cmake --preset release && ninja -C build/release aethelos aethelos-migrate $(ls services | sed 's/^/aethelos-/')) >"$work/build.log" 2>&1 || fail "the build of $1"
}
old() { AETHELOS_HOME=$work/old "$old_bin/aethelos" "$@"; }
member() { grep -o "\"$1\":\"[^\"]*\"" | head -1 | cut -d'"' -f4; }
sql() { PGPASSFILE=$passfile psql -qAt -v ON_ERROR_STOP=1 "$url" -c "SET search_path = aethelos" -c "$1"; }
jobs=0
through() { # what: five jobs, from beginning to end
  local i
  for i in 1 2 3 4 5; do old run "$home/examples/numeric-analysis.json" >"$work/run.log" 2>&1 || fail "$1: $(cat "$work/run.log")"; done
  jobs=$((jobs + 5))
  echo "ok: jobs go through $1"
}

git -C "$home" worktree add --detach "$work/old" "$commit" >/dev/null 2>&1 || fail "there is no commit $commit"
build "$home"
build "$work/old"
old up --port 31600 >/dev/null
status=$(old status --json)
url=$(member database_url <<<"$status") passfile=$(member database_passfile <<<"$status") nats=$(member nats_url <<<"$status")
through "with $commit"

# A job that was closed and reopened counts as failed no more, whichever version has counted it.
job=$(old submit "$home/examples/numeric-analysis.json" --json | member id)
old close "$job" --reason upgrade >"$work/close.log" && old redrive "$job" >>"$work/close.log" || fail "$(cat "$work/close.log")"
[ "$(sql "SELECT count(*) FROM event WHERE type = 'CHAIN_REOPENED'")" = 1 ] || fail "no job is reopened"

before=$(sql 'SELECT count(*) FROM schema_migration')
AETHELOS_DATABASE_URL=$url AETHELOS_DATABASE_PASSFILE=$passfile "$new_bin/aethelos-migrate" --directory="$home/migrations" \
  >"$work/migrate.log" 2>&1 || fail "$(cat "$work/migrate.log")"
echo "ok: $(($(sql 'SELECT count(*) FROM schema_migration') - before)) migrations and functions are new"
through "with $commit on the new schema"

# What stands in the old broker's configuration is what the old services and the new ones of the same name may do.
for service in $(ls "$work/old/services"); do
  [ -d "$home/services/$service" ] || continue
  AETHELOS_DATABASE_URL=$(sed 's/ user=.*//' <<<"$url") AETHELOS_DATABASE_PASSFILE=$passfile AETHELOS_NATS_URL=$nats \
    AETHELOS_NATS_PASSWORD_FILE=$AETHELOS_STATE/secrets/nats/$service AETHELOS_READY_FILE=$work/$service.ready AETHELOS_PORT=$([ $service = board ] && echo 31651 || echo 31650) \
    AETHELOS_TOKEN_FILE=$AETHELOS_STATE/secrets/admin-token "$new_bin/aethelos-$service" >"$work/$service.log" 2>&1 &
  joined+=($!)
  disown
done
for service in $(ls "$work/old/services"); do
  for i in $(seq 400); do [ -e "$work/$service.ready" ] && break; sleep 0.05; done
  [ -e "$work/$service.ready" ] || fail "the new $service is not ready: $(tail -1 "$work/$service.log")"
done
through "with both versions at work"

# The old ones stand still; what they hold comes again to the new ones.
frozen=()
for service in pricing payments execution ledger payouts meta-repair feed; do
  frozen+=($(old status --json | grep -o "\"name\":\"$service\",\"instance\":\"[^\"]*\",\"pid\":[0-9]*" | grep -o '[0-9]*$'))
done
kill -STOP "${frozen[@]}"
through "with the new version alone behind the door"
# What waits since before is in nobody's way: the new version's watch has put it to what waits long.
for i in $(seq 300); do
  left=$(sql "SELECT count(*) FROM chain WHERE status = 'open' AND waits_for <> 'payer' AND aside IS NULL")
  [ "$left" = 0 ] && break
  sleep 0.1
done
[ "$left" = 0 ] || fail "$left chains wait, and stand among what moves"
kill -CONT "${frozen[@]}"
overview=$(curl -sS -H "Authorization: Bearer $(cat "$AETHELOS_STATE/secrets/admin-token")" http://127.0.0.1:31651/status/overview)
[[ $overview == *'"jobs_failed":0,'* ]] || fail "the reopened job is none that failed: $overview"
[ "$(sql 'SELECT count(*) FROM audit()')" = 0 ] || fail "$(sql 'SELECT * FROM audit() LIMIT 5')"
[ "$(sql "SELECT count(*) FROM chain WHERE kind = 'job' AND status = 'completed'")" = "$jobs" ] || fail "all $jobs jobs are completed"
[ "$(sql "SELECT count(*) FROM quarantine")" = 0 ] || fail "$(sql 'SELECT service, reason FROM quarantine LIMIT 5')"
echo "ok: $jobs jobs, each completed once, the figures are right, and the invariants hold"
