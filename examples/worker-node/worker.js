// A worker of an Aethelos operator on the bus: it turns input.text round, and takes its time.
//   node worker.js OPERATOR NATS_URL USER PASSWORD_FILE     (`./aethelos operators worker OPERATOR` prints the last three)
// Run as many as you like. It accepts a run, says with every beat that it still has it, and says the result until it hears that it is committed.
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { connect } from "nats";

const [operator, url, user, passwordFile] = process.argv.slice(2);
if (!passwordFile) {
  console.error("usage: node worker.js OPERATOR NATS_URL USER PASSWORD_FILE");
  process.exit(2);
}
const subject = `aethelos.operator.${operator}`;
const worker = `${hostname()} ${process.pid}`;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const nc = await connect({ servers: url, user, pass: readFileSync(passwordFile, "utf8").trim(), name: worker, inboxPrefix: `_INBOX_${user}`, maxReconnectAttempts: -1 });

// One beat or result, said until it is answered: held, committed, or over.
async function say(what, run, more) {
  const body = JSON.stringify({ run_id: run.run_id, token: run.token, worker, ...more });
  for (;;) {
    try {
      return (await nc.request(`${subject}.${what}`, body, { timeout: 2000 })).json().status;
    } catch {
      await pause(200); // nobody there, or no answer in time
    }
  }
}

async function work(run) {
  for (const percent of [25, 50, 75]) {
    await pause((Number(process.env.WORK_SECONDS ?? 1) * 1000) / 4);
    if ((await say("beat", run, { percent, progress: "turning" })) !== "held") return;
  }
  const output = { text: [...String(run.input.text ?? "")].reverse().join("") };
  console.log(run.run_id, await say("result", run, { status: "done", output }));
}

for await (const call of nc.subscribe(subject, { queue: operator })) {
  call.respond(JSON.stringify({ status: "accepted", worker }));
  work(call.json()); // runs go on side by side
}
