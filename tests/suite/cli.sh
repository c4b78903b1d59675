#!/bin/bash
# The command line as a user lives it, on a stack that `up` made with its own PostgreSQL, broker, roles and passwords; and the publishers of examples/ against it.
# usage: cli.sh BIN_DIR
set -eu
bin=$1
home=$(cd "$(dirname "$0")/../.." && pwd)
export AETHELOS_HOME=$home
export AETHELOS_STATE=$(mktemp -d /tmp/aethelos-cli-XXXXXX)/state
aethelos=$bin/aethelos
work=$(dirname "$AETHELOS_STATE")
chmod 755 "$work" # started by root, the servers run as another user
finish() {
  status=$?
  "$aethelos" down >"$work/down.log" 2>&1 || true
  if [ $status != 0 ]; then tail -n 5 "$AETHELOS_STATE"/log/* "$work"/*.log 2>/dev/null || true; fi
  rm -rf "$work"
}
trap finish EXIT

first() { grep -o "\"$1\":\"[^\"]*\"" | head -1 | cut -d'"' -f4; }
check() { # what, text, what it must contain
  case $2 in *"$3"*) echo "ok: $1" ;; *) echo "NOT ok: $1: no \"$3\" in: $2"; exit 1 ;; esac
}
refuses() { # what, exit status, command...
  local what=$1 want=$2 got=0; shift 2
  "$@" >"$work/refused.log" 2>&1 || got=$?
  [ "$got" = "$want" ] || { echo "NOT ok: $what: exit status $got, not $want: $(cat "$work/refused.log")"; exit 1; }
  [ -s "$work/refused.log" ] || { echo "NOT ok: $what: says nothing"; exit 1; }
  echo "ok: $what"
}

refuses "a command without a stack says what to do" 1 "$aethelos" show 01890000-0000-7000-8000-000000000000
refuses "an unknown command" 2 "$aethelos" nonsense
check "help of a command" "$("$aethelos" help pay)" "usage: aethelos pay JOB --reference TEXT"
says() { # what, exit status, what it must say, command...
  local words=$3 what=$1 want=$2; shift 3
  refuses "$what" "$want" "$@"
  grep -q -e "$words" "$work/refused.log" || { echo "NOT ok: $what: no \"$words\" in: $(cat "$work/refused.log")"; exit 1; }
}
says "what is missing is named" 2 "this is missing: JOB" "$aethelos" pay --reference x
says "every way of a command is shown" 2 "webhooks rotate ID" "$aethelos" webhooks add
says "a service that is told what it does not know" 2 "unknown argument \-\-bogus" env AETHELOS_DATABASE_URL=postgresql:///none "$bin/aethelos-intake" --bogus --check-config
says "a database that is not there" 1 "failed: Connection refused" env AETHELOS_DATABASE_URL=postgresql://owner@127.0.0.1:1/none AETHELOS_NATS_URL=nats://127.0.0.1:1 "$aethelos" up --state "$work/outside"
says "a state that cannot be made" 1 "\-\-state" "$aethelos" up --state "$work/none/state"

"$aethelos" up --port 31000 >"$work/up.log" 2>&1
status=$("$aethelos" status --json)
check "status names the services" "$status" '"name":"meta-repair"'
public=$(first public_url <<<"$status"); nats=$(first nats_url <<<"$status")
user=$(first nats_user <<<"$status"); password=$(first nats_password_file <<<"$status")
check "no job is there after start" "$("$aethelos" events --json)" '"items":[]'
[ "$(stat -c %a "$password")" = 600 ] && [ "$(stat -c %a "$(first admin_token_file <<<"$status")")" = 600 ]
check "secrets are private" ok ok

run=$("$aethelos" run "$home/examples/text-analysis.json" 2>&1)
check "run shows the price and how it came about" "$run" "25.878"
check "run shows the ledger" "$run" "owner_payable"
check "run shows the result" "$run" "word_count"

nested=$(printf '[%.0s' $(seq 30))$(printf ']%.0s' $(seq 30)) # with the job and its payload around it as deep as is admitted
echo "{\"type\":\"puz19:text_analysis\",\"payload\":{\"text\":\"deep\",\"more\":$nested}}" >"$work/deep.json"
check "a job of the greatest depth is shown" "$("$aethelos" run "$work/deep.json" 2>&1)" "owner_payable"
check "and stands in no one's way" "$("$aethelos" events)" PAYOUT_READY

job=$("$aethelos" submit --json "$home/examples/numeric-analysis.json" | first id)
check "explain says for whom it waits" "$("$aethelos" explain "$job")" "payer"
check "and what may be done" "$("$aethelos" explain "$job")" "./aethelos pay $job --reference TEXT"
check "a submitted job waits for its payer" "$("$aethelos" show "$job" --json)" '"step":"PAYMENT_INITIATED"'
"$aethelos" pay "$job" --reference "bank 1" >"$work/pay.log"
for i in $(seq 100); do
  shown=$("$aethelos" show "$job" --json)
  case $shown in *'"status":"ready"'*) break ;; esac
  sleep 0.1
done
check "paid, it is completed and its payout ready" "$shown" '"status":"ready"'
refuses "another reference for the same payment" 1 "$aethelos" pay "$job" --reference "bank 2"
many=$(for i in 1 2 3; do "$aethelos" submit --json "$home/examples/numeric-analysis.json" | first id; done)
line=0
for one in $many; do echo "$one bank statement 7, line $((++line))"; done >"$work/bank"
{ echo "# the bank of this month"; echo; sed 's/ /\t /;s/$/ \r/' "$work/bank"; echo "$job bank 2"; echo "01890000-0000-7000-8000-000000000000 bank 3"; } >"$work/bank.txt"
says "one payment of many is refused" 1 "^3 confirmed, 0 stored, 2 refused$" "$aethelos" pay --file "$work/bank.txt" --by anna
check "with its line and why" "$(cat "$work/refused.log")" "line 6: $job: Already confirmed: "
check "and the other" "$(cat "$work/refused.log")" "line 7: 01890000-0000-7000-8000-000000000000: Unknown payment intent"
check "the same payments again" "$("$aethelos" pay --file - <"$work/bank")" "3 confirmed, 0 stored, 0 refused"
check "as JSON" "$("$aethelos" pay --file "$work/bank" --json)" "{\"items\":[{\"id\":\"${many%%$'\n'*}\",\"status\":\"confirmed\"},"
check "more than one request takes" "$(for i in $(seq 167); do cat "$work/bank"; done | "$aethelos" pay --file -)" "501 confirmed, 0 stored, 0 refused"
check "no payments" "$("$aethelos" pay --file - --json </dev/null)" '{"items":[]}'
unpaid=$("$aethelos" submit --json "$home/examples/numeric-analysis.json" | first id)
printf '%s bank 8\nnone bank 9\n' "$unpaid" >"$work/bank.txt"
says "a line that is wrong" 1 "line 2 of .*Nothing was sent" "$aethelos" pay --file "$work/bank.txt"
says "a line without a reference" 1 "line 1 of -.*a reference" "$aethelos" pay --file - <<<"$unpaid "
check "keeps all of them" "$("$aethelos" show "$unpaid" --json)" '"step":"PAYMENT_INITIATED"'
refuses "a job beside the file" 2 "$aethelos" pay "$job" --file "$work/bank"
refuses "a file that is not there" 1 "$aethelos" pay --file "$work/none"
payout=$("$aethelos" payouts --job "$job" --json | first id)
check "a payout is marked" "$("$aethelos" payouts mark "$payout" --reference "transfer 1" --json)" '"status":"done"'
check "marking again changes nothing" "$("$aethelos" payouts mark "$payout" --reference "transfer 1" --json)" '"status":"done"'
check "events of the payout" "$("$aethelos" events "$payout")" PAYOUT_DONE
refuses "events of nothing" 1 "$aethelos" events 01890000-0000-7000-8000-000000000000
refuses "another reference for the same payout" 1 "$aethelos" payouts mark "$payout" --reference "transfer 2"
check "events of the job" "$("$aethelos" events "$job")" REVENUE_BOOKED
echo '{"type":"none","payload":{}}' >"$work/bad.json"
refuses "a job of an unknown type" 1 "$aethelos" submit "$work/bad.json"
refuses "run of a job that is refused" 1 "$aethelos" run "$work/bad.json"
for command in overview flows operators offers payouts issues quarantine rules tasks webhooks doctor; do "$aethelos" $command --json >/dev/null; done
for command in up down status doctor overview quarantine run submit pay show events explain flows operators offers payouts refunds issues repair redrive refund close rules tasks webhooks backup restore migrate secrets bench; do "$aethelos" $command --help >/dev/null; done
check "help and json everywhere" ok ok
check "the figures of this moment" "$("$aethelos" overview | tr -s ' ')" "jobs completed 6"
for command in issues repair tasks; do refuses "$command of a kind that there is not" 1 "$aethelos" $command --kind NONE; done

check "a hasty label" "$("$aethelos" rules haste set rush --late 1 --deadline 5 --why test --json)" '"version":1'
check "hasty labels are listed" "$("$aethelos" rules haste)" rush
check "a hasty label is removed" "$("$aethelos" rules haste remove rush --why test --json)" '"version":2'
refuses "a hasty label without a reason" 2 "$aethelos" rules haste remove rush

# Somebody is told of events, at an address that is refused; the next run below brings one.
hook=$("$aethelos" webhooks add http://127.0.0.1:1/hook --types PRICED --json)
check "a webhook has its secret" "$hook" '"secret":"whsec_'
hook=$(first id <<<"$hook")
refuses "an event that there is not" 1 "$aethelos" webhooks add http://example.com/ --types PAID
refuses "a webhook that there is not" 1 "$aethelos" webhooks deliveries 01890000-0000-7000-8000-000000000000
refuses "what cannot be done with webhooks" 2 "$aethelos" webhooks ring "$hook"

# A service that dies is started again, and the work goes on.
pid=$(grep -o '"name":"pricing","instance":"[^"]*","pid":[0-9]*' <<<"$status" | grep -o '[0-9]*$')
kill -9 "$pid"
check "work goes on after a crash" "$("$aethelos" run "$home/examples/numeric-analysis.json" 2>&1)" "owner_payable"

check "a system task is opened" "$("$aethelos" tasks run FLOW_AUDIT --json)" '"opened":true'
check "a Code 19 job" "$("$aethelos" run "$home/examples/code19-issue.json" 2>&1)" "EUR 25.76"
task=$("$aethelos" tasks --kind FLOW_AUDIT --json | first id)
for i in $(seq 100); do
  shown=$("$aethelos" explain "$task")
  case $shown in *EXECUTION_COMPLETED*) break ;; esac
  sleep 0.1
done
check "the task is explained" "$shown" "EXECUTION_COMPLETED"
check "with its result" "$shown" "proven"
check "and how it is had done again" "$shown" "./aethelos tasks run FLOW_AUDIT"
check "events of the task" "$("$aethelos" events "$task")" "FLOW_AUDIT/"
check "the price of a task" "$("$aethelos" tasks)" "EUR "

for i in $(seq 100); do
  told=$("$aethelos" webhooks deliveries "$hook")
  case $told in *PRICED*"not a public one"*) break ;; esac
  sleep 0.1
done
check "a webhook goes to no private address" "$told" "the address is not a public one"
delivery=$("$aethelos" webhooks deliveries "$hook" --json | grep -o '"id":[0-9]*' | head -1 | grep -o '[0-9]*')
check "a delivery is asked for again" "$("$aethelos" webhooks redeliver "$hook" "$delivery")" active
check "a webhook is enabled" "$("$aethelos" webhooks enable "$hook" --json)" '"state":"active"'
check "a secret is changed in place" "$("$aethelos" webhooks rotate "$hook" --keep 60 --json)" '"secret":"whsec_'
refuses "a time that is none" 2 "$aethelos" webhooks rotate "$hook" --keep long
check "webhooks are listed" "$("$aethelos" webhooks)" "http://127.0.0.1:1/hook"
check "a webhook is removed" "$("$aethelos" webhooks remove "$hook" && "$aethelos" webhooks --json)" '"items":[]'

cp -r "$home/examples/publish-node" "$work/node"
(cd "$work/node" && npm ci --silent --no-audit --no-fund)
check "the publisher in Node" "$(cd "$work/node" && node publish.js "$home/examples/text-analysis.json" "$nats" "$user" "$password")" '"accepted"'
check "the publisher in shell" "$(bash "$home/examples/publish-shell/publish.sh" "$home/examples/text-analysis.json" "$nats" "$user" "$password" 2>&1)" '"accepted"'
if command -v python3 >/dev/null; then
  check "the publisher in Python" "$(python3 "$home/examples/publish-python/publish.py" "$home/examples/text-analysis.json" "$nats" "$user" "$password")" 'accepted'
fi

# Workers on the bus, as the user of their operator. The one that is killed at work is noticed by its lease, and the next does its run.
check "a worker of nobody yet" "$("$aethelos" operators worker turner 2>&1)" "no operator turner of kind bus is registered"
echo '{"name":"turner","kind":"bus","tags":["turn"],"idempotent":true,"lease_ms":1000}' >"$work/turner.json"
says "watching nobody" 1 "no operator turner" "$aethelos" operators watch turner
check "an operator on the bus" "$("$aethelos" operators add "$work/turner.json")" 'aethelos.operator.turner'
check "the same again" "$("$aethelos" operators add "$work/turner.json")" 'nothing was changed'
check "a flow for it" "$("$aethelos" flows add - --json <<<'{"name":"turn_flow","type":"turn","base":"1.00","per_unit":"0","currency":"EUR","steps":[{"tag":"turn"}]}')" '"turn"'
says "a flow that is none" 1 "/type" "$aethelos" flows add "$work/turner.json"
echo '{"type":"turn","payload":{"text":"abc"}}' >"$work/turn.json"
refuses "a worker of nobody" 2 "$aethelos" operators worker Nobody
login=$("$aethelos" operators worker turner --json)
check "the bus user of its workers" "$login" '"nats_user":"worker-turner"'
check "asked again, the same" "$("$aethelos" operators worker turner --json)" "$login"
if [ "$(id -u)" = 0 ]; then # what a call that was cut off left to root is given to whom the servers run as
  file=$(first nats_password_file <<<"$login")
  chown root "$file"
  "$aethelos" operators worker turner >/dev/null
  check "its password belongs to whom the servers run as" "$(stat -c %U "$file")" "$(stat -c %U "$(dirname "$file")")"
fi
as_worker=(turner "$nats" "$(first nats_user <<<"$login")" "$(first nats_password_file <<<"$login")")
cp "$home"/examples/worker-node/*.js* "$work/node" # the same client
(cd "$work/node" && WORK_SECONDS=60 exec node worker.js "${as_worker[@]}" >"$work/worker-node.log" 2>&1) &
worker=$!
"$aethelos" run "$work/turn.json" >"$work/turned.log" 2>&1 &
running=$!
for i in $(seq 100); do
  seen=$("$aethelos" operators watch turner)
  case $seen in *accepted*) break ;; esac
  sleep 0.1
done
check "operators watch shows who works" "$seen" "$(hostname)"
kill -9 "$worker"
(cd "$work/node" && WORK_SECONDS=0.4 exec node worker.js "${as_worker[@]}" >"$work/worker-node.log" 2>&1) &
worker=$!
wait "$running"
check "the next worker in Node did what the killed one had" "$(cat "$work/turned.log")" cba
# Asked as execution asks, whoever has done a run says so, also after it was started again.
cat >"$work/node/ask.mjs" <<'EOF'
import { readFileSync } from "node:fs";
import { connect } from "nats";
const [url, password, run] = process.argv.slice(2);
const nc = await connect({ servers: url, user: "execution", pass: readFileSync(password, "utf8").trim(), inboxPrefix: "_INBOX_execution" });
console.log((await nc.request("aethelos.operator.turner.status", JSON.stringify({ run_id: run }), { timeout: 5000 })).string());
process.exit(0);
EOF
ask() { (cd "$work/node" && node ask.mjs "$nats" "$AETHELOS_STATE/secrets/nats/execution" "$1") 2>&1; }
for i in $(seq 100); do # it hears that its result is committed a little after the job has gone on
  run_id=$(grep -o '^[0-9a-f-]\{36\}' "$work/worker-node.log" | tail -1)
  [ -n "$run_id" ] && break
  sleep 0.1
done
check "asked, it says what came of the run" "$(ask "$run_id")" '"text":"cba"'
kill "$worker"
(cd "$work/node" && exec node worker.js "${as_worker[@]}" >"$work/worker-node.log" 2>&1) &
worker=$!
for i in $(seq 100); do
  told=$(ask "$run_id" || true) # nobody answers until it listens
  case $told in *cba*) break ;; esac
  sleep 0.1
done
check "started again, it remembers" "$told" '"text":"cba"'
kill "$worker"
bash "$home/examples/worker-shell/worker.sh" "${as_worker[@]}" >"$work/worker-shell.log" 2>&1 &
worker=$!
check "the worker in shell" "$("$aethelos" run "$work/turn.json" 2>&1)" bytes
echo '{"type":"turn","payload":{"text":"a \"quoted\" word"}}' >"$work/unturned.json"
check "what a worker cannot use it refuses" "$("$aethelos" run "$work/unturned.json" 2>&1)" "a text without quotes"
check "which counts against the job, and not against the operator" "$("$aethelos" operators --json | grep -o '"name":"turner".*')" '"failures":0,"refusals":1'
kill "$worker"
if command -v python3 >/dev/null; then
  MEMORY=$work/python.done WORK_SECONDS=0.4 python3 "$home/examples/worker-python/worker.py" "${as_worker[@]}" >"$work/worker-python.log" 2>&1 &
  worker=$!
  check "the worker in Python" "$("$aethelos" run "$work/turn.json" 2>&1)" cba
  check "it remembers what it has done" "$(ask "$(grep -o '[0-9a-f-]\{36\}' "$work/python.done" | tail -1)")" '"cba"'
  kill "$worker"
fi

# More payouts than a page holds, written by the owner of the database.
PGPASSFILE=$(first database_passfile <<<"$status") psql -qAt "$(first database_url <<<"$status")" -c "INSERT INTO aethelos.chain (id, kind, step, version,
  status, lane, client, amount, currency, parent, created_at, updated_at) SELECT gen_random_uuid(), 'payout', 'PAYOUT_DONE', 3, 'completed', 'normal',
  'default', 1, 'EUR', gen_random_uuid(), now(), now() FROM generate_series(1, 1001)"
check "all payouts are listed" "$("$aethelos" payouts | grep -c 'EUR 0.01') lines" "1001 lines"
check "down" "$("$aethelos" down 2>&1 && echo stopped)" stopped
refuses "nothing runs any more" 1 "$aethelos" offers
