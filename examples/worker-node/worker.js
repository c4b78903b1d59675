// A worker of an Aethelos operator on the bus: it turns input.text round, and takes its time.
//   node worker.js OPERATOR NATS_URL USER PASSWORD_FILE     (`./aethelos operators worker OPERATOR` prints the last three)
// Run as many as you like. It accepts a run, says with every beat that it still has it, and says the result until it hears that it is committed.
// What it has done it remembers in the file MEMORY (OPERATOR.done): asked about a run, or given it again, it answers with what came of it.
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { hostname } from "node:os";
import { connect } from "nats";

const [operator, url, user, passwordFile] = process.argv.slice(2);
if (!passwordFile) {
  console.error("usage: node worker.js OPERATOR NATS_URL USER PASSWORD_FILE");
  process.exit(2);
}
const subject = `aethelos.operator.${operator}`;
const worker = `${hostname()} ${process.pid}`;
const memory = process.env.MEMORY ?? `${operator}.done`;
const answers = new Map(existsSync(memory) ? readFileSync(memory, "utf8").trim().split("\n").filter(Boolean).map((line) => JSON.parse(line)) : []);
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
  const answer = { status: "done", output: { text: [...run.input.text].reverse().join("") } };
  appendFileSync(memory, JSON.stringify([run.run_id, answer]) + "\n"); // before it is said: what is done is done once
  answers.set(run.run_id, answer);
  console.log(run.run_id, await say("result", run, answer));
}

// Every worker hears every question, and is silent about runs that it does not know.
nc.subscribe(`${subject}.status`, { callback: (_, question) => {
  const answer = answers.get(question.json().run_id);
  if (answer) question.respond(JSON.stringify(answer));
} });
for await (const call of nc.subscribe(subject, { queue: operator })) {
  const run = call.json(), known = answers.get(run.run_id);
  if (known?.status === "done") {
    call.respond(JSON.stringify(known));
    continue;
  }
  if (typeof run.input?.text !== "string") {
    call.respond(JSON.stringify({ status: "failed", error: "input.text must be a string", refused: true }));
    continue;
  }
  call.respond(JSON.stringify({ status: "accepted", worker }));
  answers.set(run.run_id, { status: "running" });
  work(run).finally(() => answers.get(run.run_id).status === "running" && answers.delete(run.run_id)); // runs go on side by side
}
