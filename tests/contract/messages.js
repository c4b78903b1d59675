// Messages of a running stack, in JSON, against the schemas of proto/asyncapi.yaml: what this test says as a publisher and as a worker, and what it hears.
// usage: node messages.js BIN_DIR (the document of `aethelos status --json` in STACK)
const { execFileSync } = require('child_process');
const crypto = require('crypto');
const fs = require('fs');
const path = require('path');
const { connect, headers: makeHeaders } = require('nats');
const { parse, check, same, settle, validator } = require('./contract.js');

const [bin] = process.argv.slice(2);
const stack = JSON.parse(process.env.STACK);
const asyncapi = parse('proto/asyncapi.yaml');
const compile = validator(asyncapi);
const secret = (file) => fs.readFileSync(file, 'utf8').trim();
const seen = new Set();

// A message as `name` of the document: its value, or the failure.
function message(name, bytes) {
  const value = JSON.parse(bytes.length ? Buffer.from(bytes).toString() : 'null');
  const wrong = compile({ $ref: '#/components/schemas/' + name })(value);
  check(name, !wrong, wrong + ' in ' + JSON.stringify(value));
  seen.add(name);
  return value;
}
const say = (name, value) => (message(name, Buffer.from(JSON.stringify(value))), JSON.stringify(value));

function post(target, body) {
  const headers = { 'Content-Type': 'application/json', Authorization: 'Bearer ' + secret(stack.admin_token_file) };
  return fetch(stack.admin_url + target, { method: 'POST', headers, body: JSON.stringify(body) }).then((a) => a.json());
}
const limit = (what, promise) => {
  let timer;
  const late = new Promise((done, fail) => (timer = setTimeout(() => fail(new Error(what + ': not within 30 s')), 30000)));
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};
const hear = (connection, subject, options) => connection.subscribe(subject, options)[Symbol.asyncIterator]();
const next = async (what, messages) => (await limit(what, messages.next())).value;

// The intent follows the receipt.
async function pay(job) {
  for (let i = 0; i < 600; i++) {
    if ((await post('/payment-intents/' + job + '/confirm', { reference: 'contract', by: 'contract' })).job) return;
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error('a payment: not within 30 s');
}

async function main() {
  await post('/operators', { name: 'contract', kind: 'bus', tags: ['contract'], answers_status: true, idempotent: true, timeout_ms: 500, lease_ms: 20000 });
  await post('/flows', { type: 'contract', name: 'contract_flow', base: '1.00', per_unit: '0', currency: 'EUR', steps: [{ tag: 'contract' }] });
  const login = JSON.parse(execFileSync(path.join(bin, 'aethelos'), ['operators', 'worker', 'contract', '--json'], { encoding: 'utf8' }));
  const publisher = await connect({ servers: stack.nats_url, user: stack.nats_user, pass: secret(stack.nats_password_file) });
  const worker = await connect({ servers: stack.nats_url, user: login.nats_user, pass: secret(login.nats_password_file), inboxPrefix: '_INBOX_' + login.nats_user });
  const receipts = hear(publisher, 'aethelos.receipt.default.>'), events = hear(publisher, 'aethelos.event.default.>');
  const calls = hear(worker, 'aethelos.operator.contract', { queue: 'contract' }), questions = hear(worker, 'aethelos.operator.contract.status');
  await Promise.all([publisher.flush(), worker.flush()]);

  const submit = async (key, job) => {
    const h = makeHeaders();
    h.set('Idempotency-Key', key);
    publisher.publish('aethelos.job.submit.default', say('Submission', job), { headers: h });
    const m = await next('a receipt', receipts);
    check('the subject of a receipt', m.subject === 'aethelos.receipt.default.' + key, m.subject);
    return message('Receipt', m.data);
  };
  const key = 'bus-' + Math.random().toString(36).slice(2);
  const accepted = await submit(key, { type: 'contract', payload: { word: 'one' }, context: { priority: 'high' } });
  same('what an accepted receipt has', Object.keys(accepted), ['status', 'job_id', 'price']);
  const rejected = await submit(key + '-no', { type: 'nothing', payload: {} });
  same('what a rejected receipt has', Object.keys(rejected), ['status', 'problem']);
  check('a key is asked about', message('Receipt', (await publisher.request('aethelos.query.receipt.default', key)).data).job_id === accepted.job_id);
  check('an unknown key', message('Receipt', (await publisher.request('aethelos.query.receipt.default', 'nothing')).data).problem.type === '/problems/unknown-key');

  // Jobs as events: structured, with and without a header that says so, and in headers.
  const event = { specversion: '1.0', id: key, source: '/contract', type: 'contract', data: { word: 'event' } };
  const own = 'ce_' + crypto.createHash('sha256').update('/contract\n' + key).digest('hex');
  const admitted = new Set();
  for (const [headers, body] of [
    [{ 'Content-Type': 'application/cloudevents+json' }, say('CloudEvent', event)],
    [{}, say('CloudEvent', event)],
    [{ 'ce-specversion': '1.0', 'ce-id': key, 'ce-source': '/contract', 'ce-type': 'contract', 'content-type': 'application/json' }, '{"word":"event"}'],
  ]) {
    const h = makeHeaders();
    for (const [name, value] of Object.entries(headers)) h.set(name, value);
    publisher.publish('aethelos.job.submit.default', body, { headers: h });
    const m = await next('the receipt of an event', receipts);
    check('an event names itself', m.subject === 'aethelos.receipt.default.' + own, m.subject);
    admitted.add(message('Receipt', m.data).job_id);
  }
  check('one event, one job', admitted.size === 1);
  publisher.publish('aethelos.job.submit.default', JSON.stringify({ ...event, type: undefined }));
  check('an event that is no job', message('Receipt', (await next('a refusal', receipts)).data).problem.field === '/type');

  // A worker that hears the call and is silent, is asked, says what it does, and delivers.
  await pay(accepted.job_id);
  const call = message('Call', (await next('a call', calls)).data);
  const asked = await next('a question', questions);
  check('the question is about the call', message('Question', asked.data).run_id === call.run_id);
  asked.respond(say('Answer', { status: 'running', worker: 'one' }));
  const tell = async (what, name, value) => message(name, (await worker.request('aethelos.operator.contract.' + what, value, { timeout: 10000 })).data);
  const run = { run_id: call.run_id, token: call.token, worker: 'one' };
  const held = async () => (await tell('beat', 'BeatAnswer', say('Beat', { ...run, percent: 40, progress: 'reading' }))).status;
  let status = await held();
  for (let i = 0; i < 100 && status !== 'held'; i++) {
    await new Promise((done) => setTimeout(done, 50)); // until the answer to the question is stored
    status = await held();
  }
  check('a beat is heard', status === 'held', status);
  check('a beat of another', (await tell('beat', 'BeatAnswer', say('Beat', { ...run, token: 1000 }))).status === 'over');
  check('a beat that is none', (await tell('beat', 'BeatAnswer', '{}')).status === 'invalid');
  const result = say('Result', { ...run, status: 'done', output: { word: 'eno' } });
  check('a result', (await tell('result', 'ResultAnswer', result)).status === 'committed');
  check('a result again', (await tell('result', 'ResultAnswer', result)).status === 'committed');
  check('a result that is none', (await tell('result', 'ResultAnswer', '{}')).status === 'invalid');
  check('a result of another', (await tell('result', 'ResultAnswer', say('Result', { ...run, run_id: accepted.job_id, status: 'failed', error: 'none' }))).status === 'over');

  // And one that answers at once.
  const quick = await submit(key + '-quick', { type: 'contract', payload: { word: 'two' } });
  await pay(quick.job_id);
  const second = await next('a second call', calls);
  message('Call', second.data);
  second.respond(say('Reply', { status: 'done', output: { word: 'owt' } }));

  const types = new Set();
  for (;;) {
    const m = await next('an event', events), e = message('Event', m.data);
    check('the subject of an event', m.subject === ['aethelos.event.default', e.type, e.chain_id].join('.'), m.subject);
    types.add(e.type);
    if (e.type === 'REVENUE_BOOKED' && e.chain_id === quick.job_id) break;
  }
  check('events of a whole chain', types.has('JOB_CREATED') && types.has('STEP_COMPLETED'), [...types].join(' '));

  // What is for workers, publishers and listeners; the rest is between the services: bells and heartbeats.
  const all = Object.entries(asyncapi.components.messages).filter(([name, m]) => m['x-encodings'].includes('json') && name !== 'Heartbeat').map(([name]) => name);
  same('messages that were checked', seen, all);
  settle(seen.size + ' messages of the bus are as proto/asyncapi.yaml says');
  process.exit(0);
}
process.on('unhandledRejection', (e) => (console.log(e), process.exit(1)));
main();
