#!/bin/bash
# The files under compose/, kubernetes/ and systemd/: see compose.js, kubernetes.js and systemd.js.
# usage: run.sh BIN_DIR
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d /tmp/aethelos-deploy-XXXXXX)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # started by root, the programs run as another user, and the checkout may be where that one cannot look (/root)
mkdir -p "$work/home/build/bin"
tar -C "$here/../.." --exclude=./build --exclude=./var --exclude=./.git -c . | tar -C "$work/home" -x --no-same-owner
cp "$1"/aethelos* "$work/home/build/bin"
chmod -R a+rX "$work/home"
here=$work/home/tests/deploy
set -- "$work/home/build/bin"
cp "$here"/package*.json "$work"
(cd "$work" && npm ci --silent --no-audit --no-fund)
export NODE_PATH=$work/node_modules
mkdir "$work/compose"
node "$here/compose.js" "$1" "$work/compose"
cp -r "$here/../../kubernetes" "$work/kubernetes"
rm -rf "$work/kubernetes/base/state"
mkdir -m 755 "$work/kubernetes/base/state"
AETHELOS_HOME=$here/../.. "$1/aethelos" secrets "$work/kubernetes/base/state" >/dev/null
[ "$(stat -c %a "$work/kubernetes/base/state")" = 755 ] || { echo "NOT ok: secrets leave the mode of a directory that is there"; exit 1; }
node "$here/kubernetes.js" "$work/kubernetes"
mkdir "$work/systemd"
node "$here/systemd.js" "$1" "$work/systemd"
