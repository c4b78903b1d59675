#!/bin/sh
# Compares the table of subjects in proto/README.md with what every service says of itself (--subjects). usage: check_contract.sh BIN_DIR
# Each side is brought into the form "<service> <says|hears> <subject with * for each token> <message>".
set -eu
bin=$1
readme=$(dirname "$0")/README.md
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

services="intake pricing payments execution ledger payouts meta-repair feed webhooks board"
for service in $services; do
  "$bin/aethelos-$service" --subjects | sed "s/^/$service /"
done | awk -v OFS=' ' '{ print $1, $2, $3, $4 }' | sort -u > "$dir/programs"

awk -F'|' -v services="$services" '
  BEGIN { n = split(services, all, " "); for (i = 1; i <= n; i++) known[all[i]] = 1 }
  function put(list, direction, subject, message,   names, k, i, s) {
    k = split(list, names, ",")
    for (i = 1; i <= k; i++) {
      gsub(/^ +| +$/, "", names[i])
      if (names[i] == "every service")
        for (s in known) print s, direction, "aethelos.heartbeat." s ".*", message
      else if (names[i] in known)
        print names[i], direction, subject, message
    }
  }
  $2 ~ /^ `aethelos\./ {
    subject = $2; gsub(/[ `]/, "", subject); gsub(/<[^>]*>/, "*", subject)
    gsub(/<chain id>/, "*", subject)
    message = $3; gsub(/^ +/, "", message); sub(/[ ].*/, "", message)
    put($4, "says", subject, message)
    put($5, "hears", subject, message)
  }' "$readme" | sort -u > "$dir/contract"

if ! diff -u "$dir/contract" "$dir/programs"; then
  echo "proto/README.md and the programs do not say the same (-: contract, +: programs)" >&2
  exit 1
fi
