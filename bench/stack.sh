# Sourced by the benches: a private stack in a temporary directory (PostgreSQL with fsync and synchronous_commit on, its own broker), deleted at the end.
# Sets: bin, work, status (of the stack, JSON), database, passfile.
bin=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d /tmp/aethelos-bench-XXXXXX)
chmod 755 "$work"
export AETHELOS_STATE=$work/state
finish() { "$bin/aethelos" down >/dev/null 2>&1 || true; rm -rf "$work"; }
trap finish EXIT
say() { echo "$*" >&2; }

first() { grep -o "\"$1\":\"[^\"]*\"" | head -1 | cut -d'"' -f4; }
up() {
  "$bin/aethelos" up --port 33000 >"$work/up.log" 2>&1 || { cat "$work/up.log" >&2; exit 1; }
  status=$("$bin/aethelos" status --json)
  database=$(first database_url <<<"$status")
  passfile=$work/pgpass # our own copy: libpq wants it private to the one who reads it
  cp "$(first database_passfile <<<"$status")" "$passfile"
  chmod 600 "$passfile"
}
ask() { PGPASSFILE=$passfile PGOPTIONS='-c search_path=aethelos' psql -X -At -d "$database" -c "$1"; }

load() {
  "$bin/aethelos-load" --public="$(first public_url <<<"$status")" --admin="$(first admin_url <<<"$status")" --token="$(cat "$(first admin_token_file <<<"$status")")" \
    --nats="$(first nats_url <<<"$status")" --nats-user=default --nats-password="$(cat "$(first nats_password_file <<<"$status")")" \
    --database="$database passfile=$passfile options=-csearch_path=aethelos" "$@"
}

# CPU seconds of each process of the stack; PostgreSQL with all its children.
cpu() {
  local tick name pid
  tick=$(getconf CLK_TCK)
  grep -o '"name":"[^"]*","instance":"[^"]*","pid":[0-9]*' <<<"$status" | sed 's/"name":"\([^"]*\)".*"pid":\([0-9]*\)/\1 \2/' | while read -r name pid; do
    if [ "$name" = postgresql ]; then
      cat /proc/[0-9]*/stat 2>/dev/null | sed 's/([^)]*)/x/' | awk -v p="$pid" -v t="$tick" '$1 == p { s += $14 + $15 + $16 + $17 } $4 == p { s += $14 + $15 } END { printf "postgresql %.2f\n", s / t }'
    else
      sed 's/([^)]*)/x/' "/proc/$pid/stat" | awk -v n="$name" -v t="$tick" '{ printf "%s %.2f\n", n, ($14 + $15) / t }'
    fi
  done
}
number() { grep -o "\"$1\":[0-9.]*" | head -1 | cut -d: -f2; }

# Starts the stack. Latency ends at the commit by PostgreSQL's own account, so it keeps the times of commits.
stack_up() {
  up
  ask "ALTER SYSTEM SET track_commit_timestamp = on" >/dev/null
  "$bin/aethelos" down >/dev/null 2>&1
  up
}
