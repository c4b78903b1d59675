#!/bin/bash
# The contract for machines against a stack of its own: the documents (documents.js), vectors (vectors.js), messages of the bus (messages.js), every operation (operations.js).
# usage: run.sh BIN_DIR
set -eu
bin=$1
here=$(cd "$(dirname "$0")" && pwd)
export AETHELOS_HOME=$here/../..
work=$(mktemp -d /tmp/aethelos-contract-XXXXXX)
export AETHELOS_STATE=$work/state
chmod 755 "$work" # started by root, the servers run as another user
finish() {
  status=$?
  "$bin/aethelos" down >"$work/down.log" 2>&1 || true
  [ $status = 0 ] || tail -n 5 "$AETHELOS_STATE"/log/* "$work"/*.log 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

cp "$here"/package*.json "$work"
(cd "$work" && npm ci --ignore-scripts --silent --no-audit --no-fund)
export NODE_PATH=$work/node_modules
"$bin/aethelos" up --port 31500 >"$work/up.log" 2>&1
STACK=$("$bin/aethelos" status --json)
export STACK
PGPASSFILE=$(grep -o '"database_passfile":"[^"]*"' <<<"$STACK" | cut -d'"' -f4) \
  node "$here/documents.js" "$bin" "$(grep -o '"database_url":"[^"]*"' <<<"$STACK" | cut -d'"' -f4)"
node "$here/vectors.js"
node "$here/messages.js" "$bin"
node "$here/operations.js"
