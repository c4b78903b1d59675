// Publishes the job in a file to Aethelos over NATS and waits for its receipt.
//   node publish.js FILE [NATS_URL USER PASSWORD_FILE]     (or the environment: NATS_URL, NATS_USER, NATS_PASSWORD_FILE, KEY)
// A submission is safe once its receipt is there, and not before: until then it is repeated under the same key, which never makes a second job.
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { connect, headers } from "nats";

const [file, url = process.env.NATS_URL, user = process.env.NATS_USER, passwordFile = process.env.NATS_PASSWORD_FILE] = process.argv.slice(2);
if (!file || !url || !user || !passwordFile) {
  console.error("usage: node publish.js FILE [NATS_URL USER PASSWORD_FILE]");
  process.exit(2);
}
const job = readFileSync(file);
const key = process.env.KEY || randomUUID();
if (!/^[A-Za-z0-9_-]{1,128}$/.test(key)) {
  console.error("a key is 1 to 128 of A-Z a-z 0-9 _ -"); // nobody would be answered under another
  process.exit(2);
}
const client = "default";

const nc = await connect({ servers: url, user, pass: readFileSync(passwordFile, "utf8").trim(), name: "publish-node" });
let receipt = null;
// Listening begins before the first submission, or a quick receipt would be missed.
const subscription = nc.subscribe(`aethelos.receipt.${client}.${key}`, { max: 1, callback: (err, msg) => { receipt = err ?? msg; } });
await nc.flush();

const head = headers();
head.set("Idempotency-Key", key);
head.set("Content-Type", "application/json");
for (let wait = 1000; !receipt && wait <= 32000; wait *= 2) {
  nc.publish(`aethelos.job.submit.${client}`, job, { headers: head });
  for (const until = Date.now() + wait; !receipt && Date.now() < until; ) await new Promise((resolve) => setTimeout(resolve, 20));
}
subscription.unsubscribe();
await nc.close();

if (!receipt) {
  console.error(`no receipt yet; run it again with KEY=${key}`);
  process.exitCode = 1;
} else if (receipt instanceof Error) {
  console.error(receipt.message);
  process.exitCode = 1;
} else {
  console.log(JSON.stringify({ key, ...receipt.json() }));
  process.exitCode = receipt.json().status === "accepted" ? 0 : 1;
}
