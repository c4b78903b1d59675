// Drives every operation of docs/openapi.yaml against a running stack: a good call and an error at least, each answer against its schema.
// usage: node operations.js (the document of `aethelos status --json` in STACK)
const { execFileSync } = require('child_process');
const crypto = require('crypto');
const fs = require('fs');
const http = require('http');
const { CloudEvent, HTTP } = require('cloudevents');
const { parse, check, same, settle, validator } = require('./contract.js');

const stack = JSON.parse(process.env.STACK);
const openapi = parse('docs/openapi.yaml');
const compile = validator(openapi);
const token = fs.readFileSync(stack.admin_token_file, 'utf8').trim();
const nobody = '01890000-0000-7000-8000-000000000000';

const operations = {};
for (const [route, item] of Object.entries(openapi.paths))
  for (const [method, o] of Object.entries(item))
    if (o.operationId) {
      const ports = item.servers.map((s) => (s.url.endsWith(':3000') ? 'public' : 'admin'));
      operations[o.operationId] = { ...o, route, method: method.toUpperCase(), ports, driven: new Set() };
    }
const resolve = (o) => (o && o.$ref ? o.$ref.split('/').slice(1).reduce((at, k) => at[k], openapi) : o);

function ask(port, method, target, headers, body) {
  return new Promise((done, fail) => {
    const r = http.request(stack[port + '_url'] + target, { method, headers, agent: false }, (a) => {
      let text = '';
      a.setEncoding('utf8');
      a.on('data', (d) => {
        text += d;
        if ((a.headers['content-type'] || '').startsWith('text/event-stream') && /^data: .*\n\n/m.test(text)) a.destroy(); // one event is enough
      });
      a.on('close', () => done({ status: a.statusCode, headers: a.headers, text }));
    });
    r.on('error', fail);
    r.end(body);
  });
}

function judge(what, o, a) {
  const own = o.responses[a.status], response = resolve(own || o.responses.default);
  o.driven.add(a.status + (own ? '' : ' (default)'));
  const type = (a.headers['content-type'] || '').split(';')[0];
  const content = response.content || {};
  if (!content[type] && !(Object.keys(content).length === 0 && a.text === ''))
    return check(what, false, 'the answer is "' + type + '", documented are: ' + Object.keys(content));
  for (const [name, h] of Object.entries(response.headers || {}))
    check(what + ' has the header ' + name, a.headers[name.toLowerCase()] || name === 'Retry-After', JSON.stringify(h));
  if (type === 'text/event-stream') {
    const data = a.text.split('\n\n').slice(0, -1).map((e) => e.split('\n').filter((l) => l.startsWith('data: ')).map((l) => l.slice(6)).join('\n')).filter((d) => d);
    check(what, data.length > 0, 'no event in the stream: ' + a.text);
    for (const d of data) {
      const wrong = compile(content[type].schema['x-data'])(JSON.parse(d));
      check(what, !wrong, wrong + ' in ' + d);
    }
  } else if (type === 'text/csv') {
    check(what, a.text.startsWith('payout_id,'), a.text);
  } else if (type && type !== 'text/plain') {
    a.json = JSON.parse(a.text);
    const wrong = compile(content[type].schema)(a.json);
    check(what, !wrong, wrong + ' in ' + a.text);
  }
  if (a.status >= 400)
    check(what + ': ' + a.json.type + ' is told of', response.description.includes('`' + a.json.type.replace('/problems/', '') + '`'), response.description);
}

// One call. `want`: a status, or several; or a problem, whose status must be one of the operation. `plain`: no schema is for what is sent.
async function call(id, want, { port, path = {}, query = {}, headers = {}, body, plain } = {}) {
  const o = operations[id], at = port || o.ports[0];
  const target = o.route.replace(/\{(\w+)\}/g, (all, name) => encodeURIComponent(path[name])) + (Object.keys(query).length ? '?' + new URLSearchParams(query) : '');
  const all = { 'Content-Type': 'application/json', ...(at === 'admin' ? { Authorization: 'Bearer ' + token } : {}), ...headers };
  if (body === undefined || headers.Authorization === '') delete all['Content-Type'];
  if (headers.Authorization === '') delete all.Authorization;
  const a = await ask(at, o.method, target, all, body === undefined || typeof body === 'string' ? body : JSON.stringify(body));
  const what = o.method + ' ' + target + ' (' + want + ')';
  check(what, typeof want === 'string' ? a.text.includes('/problems/' + want + '"') : [].concat(want).includes(a.status), a.status + ' ' + a.text);
  if (a.status < 300 && o.requestBody && body !== undefined && !plain) {
    const wrong = compile(o.requestBody.content[all['Content-Type'].split(';')[0]].schema)(body);
    check(what + ': what was sent', !wrong, wrong);
  }
  judge(what, o, a);
  return a;
}
const key = () => ({ 'Idempotency-Key': 'contract-' + Math.random().toString(36).slice(2) });
async function until(what, look) {
  for (let i = 0; i < 600; i++) {
    const seen = await look();
    if (seen) return seen;
    await new Promise((done) => setTimeout(done, 50));
  }
  check(what, false, 'not within 30 s');
  settle(what);
}
// A command that is answered as soon as it is stored, and another one under its key.
async function reused(id, path, body, other) {
  const headers = { ...key(), Prefer: 'respond-async' };
  await call(id, 202, { path, headers, body });
  await call(id, 'key-reused', { path, headers, body: other });
}
// While a service stands still.
async function standing(service, what) {
  const pids = stack.services.filter((p) => p.name === service).map((p) => p.pid);
  check(service + ' runs', pids.length > 0 && pids.every((p) => p > 0));
  pids.forEach((p) => process.kill(p, 'SIGSTOP'));
  try {
    await what();
  } finally {
    pids.forEach((p) => process.kill(p, 'SIGCONT'));
  }
}
const job = async (type, payload = { text: 'hello' }) => (await call('submitJob', 201, { headers: key(), body: { type, payload } })).json.job.id;
const pay = (id, reference = 'contract') => call('confirmPayment', 200, { path: { id }, body: { reference, by: 'contract' } });
const stands = (id, step) => until(step, async () => (await call('getJob', 200, { path: { id } })).json.step === step);

async function jobs() {
  const text = 'puz19:text_analysis', named = key();
  const first = (await call('submitJob', 201, { headers: named, body: { type: text, payload: { text: 'hello' }, context: { priority: 'high' } } })).json.job.id;
  await call('submitJob', 200, { headers: named, body: { type: text, payload: { text: 'hello' }, context: { priority: 'high' } } });
  await call('submitJob', 202, { headers: { ...key(), Prefer: 'respond-async' }, body: { type: text, payload: { text: 'later' } } });
  await call('submitJob', 'idempotency-key-reused', { headers: named, body: { type: text, payload: { text: 'other' } } });
  await call('submitJob', 'idempotency-key-missing', { body: { type: text, payload: {} } });
  await call('submitJob', 'idempotency-key-invalid', { headers: { 'Idempotency-Key': 'a b' }, body: { type: text, payload: {} } });
  await call('submitJob', 'invalid-json', { headers: key(), body: '{' });
  await call('submitJob', 'unknown-type', { headers: key(), body: { type: 'nothing', payload: {} } });
  await call('submitJob', 'unknown-member', { headers: key(), body: { type: text, payload: {}, more: 1 } });
  await call('submitJob', 'invalid-job', { headers: key(), body: [] });
  await call('submitJob', 'invalid-type', { headers: key(), body: { payload: {} } });
  await call('submitJob', 'invalid-payload', { headers: key(), body: { type: text } });
  await call('submitJob', 'invalid-context', { headers: key(), body: { type: text, payload: {}, context: 1 } });
  await call('submitJob', 'unknown-priority', { headers: key(), body: { type: text, payload: {}, context: { priority: 'most' } } });
  await call('submitJob', 'invalid-complexity', { headers: key(), body: { type: text, payload: { text: 'a', complexity: -1 } } });
  await call('submitJob', 'amount-too-large', { headers: key(), body: `{"type":"${text}","payload":{"text":"a","complexity":9000000000000000000}}` });
  const event = { specversion: '1.0', id: 'e-' + Math.random(), source: '/contract', type: text, data: { text: 'event' }, priority: 'low' };
  const sent = new CloudEvent({ ...event, id: event.id + '-sdk', source: '/contract/others', time: '2026-01-31T08:00:00Z' }, false);
  const first_of = (await call('submitJob', 201, { headers: HTTP.structured(sent).headers, body: HTTP.structured(sent).body, plain: true })).json.job.id;
  const again = await call('submitJob', 200, { headers: HTTP.binary(sent).headers, body: HTTP.binary(sent).body, plain: true });
  check('what others write is read, in either mode', again.json.job.id === first_of);
  const structured = { 'Content-Type': 'application/cloudevents+json; charset=utf-8' };
  const binary = { 'ce-specversion': '1.0', 'ce-id': event.id, 'ce-source': '%2Fcontract', 'ce-type': text, 'ce-priority': 'low' };
  const told = (await call('submitJob', 201, { headers: structured, body: event })).json.job.id;
  check('the same event in the other mode', (await call('submitJob', 200, { headers: binary, body: event.data, plain: true })).json.job.id === told);
  const own = crypto.createHash('sha256').update(event.source + '\n' + event.id).digest('hex');
  await call('getReceipt', 'not-found', { path: { key: 'ce_' + own } }); // who guesses source and id learns nothing
  await call('submitJob', 'idempotency-key-reused', { headers: { ...binary, 'ce-priority': 'high' }, body: event.data });
  await call('submitJob', 201, { headers: { ...structured, ...key() }, body: event });
  await call('submitJob', 'invalid-event', { headers: structured, body: { ...event, id: undefined } });
  await call('submitJob', 'invalid-event', { headers: { ...binary, 'Content-Type': 'text/plain' }, body: 'text' });
  await call('submitJob', 'unknown-priority', { headers: structured, body: { ...event, priority: 'most' } });
  await call('submitJob', 'unsupported-event-format', { headers: { 'Content-Type': 'application/cloudevents-batch+json' }, body: [event] });
  const offer = (await call('getOffers', 200)).json.items.find((o) => o.type === text).id, bought = key();
  await call('buyOffer', 201, { path: { id: offer }, headers: bought, body: { text: 'bought' } });
  await call('buyOffer', 200, { path: { id: offer }, headers: bought, body: { text: 'bought' } });
  await call('buyOffer', 202, { path: { id: offer }, headers: { ...key(), Prefer: 'respond-async' }, body: { text: 'later' } });
  await call('buyOffer', 'unknown-offer', { path: { id: 'nothing' }, headers: key(), body: {} });
  await call('buyOffer', 'idempotency-key-missing', { path: { id: offer }, body: {} });
  await call('buyOffer', 'invalid-complexity', { path: { id: offer }, headers: key(), body: { text: 'a', complexity: 'much' } });
  await call('getPaymentIntent', 200, { path: { id: first } });
  await call('getPaymentIntent', 'not-found', { path: { id: nobody } });
  await call('getReceipt', 200, { path: { key: named['Idempotency-Key'] } });
  await call('getReceipt', 'not-found', { path: { key: 'nothing' } });
  await call('getDossier', 200, { path: { id: first } });

  await call('confirmPayment', 'wrong-amount', { path: { id: first }, body: { reference: 'r', by: 'b', amount: { minor: 1, currency: 'EUR' } } });
  await call('confirmPayment', 'invalid-value', { path: { id: first }, body: { by: 'b' } });
  await call('confirmPayment', 'unknown-member', { path: { id: first }, body: { reference: 'r', by: 'b', more: 1 } });
  await call('confirmPayment', 'invalid-json', { path: { id: first }, body: '{' });
  await call('confirmPayment', 'unknown-payment-intent', { path: { id: nobody }, body: { reference: 'r', by: 'b' } });
  await pay(first);
  await call('confirmPayment', 'already-confirmed', { path: { id: first }, body: { reference: 'another', by: 'b' } });
  await stands(first, 'REVENUE_BOOKED');
  const later = await job(text);
  await standing('payments', () => call('confirmPayment', 202, { path: { id: later }, headers: { Prefer: 'respond-async' }, body: { reference: 'later', by: 'b' } }));

  const many = [await job(text), await job(text)], stored = await job(text);
  const items = [...many, nobody, 'none', first].map((id) => ({ id, reference: 'one of many' }));
  const outcomes = (await call('confirmPayments', 200, { body: { by: 'contract', items } })).json.items;
  same('each has its outcome', outcomes.map((o) => [o.id, o.status, o.problem?.type].join(' ')),
    [...many.map((id) => id + ' confirmed '), ...[nobody, 'none'].map((id) => id + ' refused /problems/unknown-payment-intent'), first + ' refused /problems/already-confirmed']);
  for (const o of outcomes.filter((o) => o.problem))
    check(o.problem.type + ' is told of', operations.confirmPayments.responses[200].description.includes('`' + o.problem.type.replace('/problems/', '') + '`'));
  const one = { items: [{ id: stored, reference: 'later', by: 'contract' }] };
  await standing('payments', () => call('confirmPayments', 202, { headers: { Prefer: 'respond-async' }, body: one }));
  await call('confirmPayments', 'invalid-value', { body: { items } });
  await call('confirmPayments', 'invalid-value', { body: { by: 'b', items: [] } });
  await call('confirmPayments', 'unknown-member', { body: { by: 'b', items: [{ ...items[0], more: 1 }] } });
  await call('confirmPayments', 'invalid-json', { body: '{' });
  await call('getJob', 200, { port: 'admin', path: { id: first } });
  await call('getJob', 'not-found', { path: { id: nobody } });
  await call('getJob', 'unknown-job', { port: 'admin', path: { id: nobody } });
  await call('getDossier', 200, { path: { id: first } });
  await call('getDossier', 200, { port: 'admin', path: { id: first } });
  await call('getDossier', 'not-found', { path: { id: nobody } });
  await call('getDossier', 'unknown-job', { port: 'admin', path: { id: nobody } });
  const page = (await call('getJobEvents', 200, { path: { id: first }, query: { limit: 2 } })).json;
  await call('getJobEvents', 200, { path: { id: first }, query: { after: page.next } });
  await call('getJobEvents', 'invalid-cursor', { path: { id: first }, query: { after: 'x' } });
  await call('getJobEvents', 'invalid-limit', { path: { id: first }, query: { limit: 0 } });
  await call('getJobEvents', 'not-found', { path: { id: nobody } });
  await call('streamJobEvents', 200, { path: { id: first } });
  await call('streamJobEvents', 204, { path: { id: first }, headers: { 'Last-Event-ID': '1000' } });
  await call('streamJobEvents', 'invalid-cursor', { path: { id: first }, query: { after: 'x' } });
  await call('streamJobEvents', 'not-found', { path: { id: nobody } });

  const payout = await until('a payout is ready', async () => (await call('getPayouts', 200, { query: { job_id: first, status: 'ready' } })).json.items[0]);
  await call('getPayouts', 200, { query: { limit: 1 } });
  await call('getPayouts', 'invalid-query', { query: { status: 'lost' } });
  return { first, payout };
}

async function tasks(payout) {
  const task = (await call('openTask', 200, { headers: key(), body: { kind: 'PAYOUT_SETTLEMENT', now: true } })).json.task_id;
  await call('openTask', 202, { headers: { Prefer: 'respond-async' }, body: { kind: 'HEALTH_CHECK' } });
  await call('openTask', 'refused-command', { body: { kind: 'OPERATOR_TUNING', entity: 'nobody' } });
  await call('openTask', 'invalid-value', { body: {} });
  await until('the settlement', async () => (await call('getTask', 200, { path: { id: task } })).json.state === 'COMPLETED');
  await call('getTask', 'unknown-task', { path: { id: nobody } });
  const gathered = (await call('getExport', 200, { path: { id: task } })).json.items;
  check('the settlement gathers what is ready', gathered.some((i) => i.payout_id === payout.id));
  await call('getExport', 200, { path: { id: task }, query: { format: 'csv' } });
  await call('getExport', 'invalid-query', { path: { id: task }, query: { format: 'xml' } });
  await call('getExport', 'unknown-task', { path: { id: nobody } });
  await call('getTasks', 200, { query: { kind: 'PAYOUT_SETTLEMENT' } });
  await call('getTasks', 'invalid-query', { query: { state: 'LOST' } });
  await call('getTasks', 'invalid-query', { query: { kind: 'NONE' } });
  await call('runTask', 200, { path: { id: task }, body: {} });
  await call('runTask', 'unknown-task', { path: { id: nobody }, body: {} });
  await reused('runTask', { id: task }, { by: 'one' }, { by: 'another' });
  await call('runTask', 'invalid-json', { path: { id: task }, body: '{' });
  await call('runTask', 'unknown-member', { path: { id: task }, body: { more: 1 } });
  await reused('openTask', {}, { kind: 'FLOW_AUDIT' }, { kind: 'HEALTH_CHECK' });

  await call('markPayout', 'wrong-amount', { body: { payout_id: payout.id, reference: 'r', by: 'b', amount: { minor: 1, currency: 'EUR' } } });
  await call('markPayout', 200, { body: { payout_id: payout.id, reference: 'transfer', by: 'contract', amount: payout.amount } });
  await call('markPayout', 'already-marked', { body: { payout_id: payout.id, reference: 'another', by: 'b' } });
  await call('markPayout', 'unknown-payout', { body: { payout_id: nobody, reference: 'r', by: 'b' } });
  await call('markPayout', 'invalid-value', { body: { payout_id: payout.id, by: 'b' } });
  await call('markPayout', 'invalid-json', { body: '{' });
  const other = await until('another payout', async () => (await call('getPayouts', 200, { query: { status: 'ready' } })).json.items[0]);
  await standing('payouts', () => call('markPayout', 202, { headers: { Prefer: 'respond-async' }, body: { payout_id: other.id, reference: 'later', by: 'contract' } }));
}

// An operator that breaks off every call, and a flow that has none.
async function runs() {
  const broken = http.createServer((q) => q.socket.destroy());
  await new Promise((done) => broken.listen(0, '127.0.0.1', done));
  const operator = { name: 'breaks_off', kind: 'http', url: 'http://127.0.0.1:' + broken.address().port + '/', tags: ['broken'], timeout_ms: 1000 };
  await call('registerOperator', 201, { body: operator });
  await call('registerOperator', 200, { body: operator });
  await call('registerOperator', 'operator-exists', { body: { ...operator, timeout_ms: 2000 } });
  await call('registerOperator', 'invalid-value', { body: { ...operator, name: 'Not A Name' } });
  await call('registerOperator', 'invalid-url', { body: { ...operator, url: 'ftp://x/' } });
  await call('registerOperator', 'invalid-json', { body: '{' });
  await call('registerOperator', 201, { body: { name: 'on_the_bus', kind: 'bus', tags: ['bus'], answers_status: true, lease_ms: 1000 } });
  await call('getOperators', 200);
  const flow = (type, tag) => ({ type, name: type + '_flow', base: '1.00', per_unit: '0', currency: 'EUR', steps: [{ tag }] });
  await call('registerFlow', 201, { body: flow('broken', 'broken') });
  await call('registerFlow', 201, { body: { ...flow('nobody', 'nobody'), base: 2.5 } });
  await call('registerFlow', 'type-taken', { body: { ...flow('broken', 'broken'), name: 'another' } });
  await call('registerFlow', 'invalid-value', { body: { ...flow('broken', 'broken'), steps: [] } });
  await call('registerFlow', 'unknown-currency', { body: { ...flow('broken', 'broken'), currency: 'ABC' } });
  await call('registerFlow', 'invalid-json', { body: '{' });
  await call('getFlows', 200);

  const unknown = await job('broken');
  await pay(unknown);
  const run = await until('the outcome of a run is not known', async () => (await call('getRuns', 200, { query: { job_id: unknown, state: 'unknown' } })).json.items[0]);
  await call('getJob', 200, { port: 'admin', path: { id: unknown } });
  await call('getDossier', 200, { path: { id: unknown } });
  await call('getRuns', 'invalid-query', { query: { job_id: 'x' } });
  const decision = { outcome: 'done', output: { word: 'done' }, reference: 'telephone', by: 'contract' };
  await call('resolveRun', 'invalid-value', { path: { run_id: run.id }, body: { ...decision, outcome: 'lost' } });
  await call('resolveRun', 'unknown-member', { path: { run_id: run.id }, body: { ...decision, more: 1 } });
  await call('resolveRun', 'invalid-json', { path: { run_id: run.id }, body: '{' });
  await call('resolveRun', 'unknown-run', { path: { run_id: nobody }, body: decision });
  await until('a person may decide', async () => (await call('resolveRun', [200, 409], { path: { run_id: run.id }, body: decision })).status === 200);
  await call('resolveRun', 'decision-exists', { path: { run_id: run.id }, body: { outcome: 'failed', reference: 'another', by: 'b' } });
  await stands(unknown, 'REVENUE_BOOKED');
  broken.close();
}

async function repair(completed) {
  const text = 'puz19:text_analysis';
  const failed = await job('nobody');
  await pay(failed);
  await stands(failed, 'EXECUTION_FAILED'); // to be run again in 30 s
  const found = async (chain) => (await call('getIssues', 200, { query: { chain_id: chain } })).json.items[0];
  await until('its issue is there', async () => await found(failed));
  await call('closeIssue', 'not-closable', { path: { id: (await found(failed)).id }, body: { reason: 'r', by: 'b' } });
  await call('refundJob', 200, { path: { id: failed }, body: { reason: 'nobody can do it', by: 'contract' } });
  await stands(failed, 'REFUND_INITIATED');
  check('a refund is asked for', (await call('getRefunds', 200)).json.items.some((r) => r.job_id === failed));
  await call('getRefunds', 'invalid-query', { query: { after: 'x' } });
  await call('confirmRefund', 'unknown-job', { path: { id: nobody }, body: { reference: 'r', by: 'b' } });
  await call('confirmRefund', 'not-waiting-for-refund', { path: { id: completed }, body: { reference: 'r', by: 'b' } });
  await call('confirmRefund', 'invalid-value', { path: { id: failed }, body: {} });
  await call('confirmRefund', 'invalid-json', { path: { id: failed }, body: '{' });
  await call('confirmRefund', 200, { path: { id: failed }, body: { reference: 'went back', by: 'contract' } });
  await call('confirmRefund', 'already-confirmed', { path: { id: failed }, body: { reference: 'another', by: 'b' } });
  await stands(failed, 'FINAL_FAIL');
  await call('getDossier', 200, { port: 'admin', path: { id: failed } });
  const issue = (await call('getIssues', 200, { query: { chain_id: failed } })).json.items[0];
  await call('getIssues', 'invalid-query', { query: { chain_id: 'x' } });
  for (const wrong of [{ kind: 'NONE' }, { state: 'none' }, { grade: 'none' }]) await call('getIssues', 'invalid-query', { query: wrong });
  await call('getIssue', 200, { path: { id: issue.id } });
  await call('getIssue', 'unknown-issue', { path: { id: nobody } });
  await call('repairIssue', 200, { path: { id: issue.id }, body: { by: 'contract' } });
  await call('repairIssue', 'unknown-issue', { path: { id: nobody } });
  await call('repairIssue', 'unknown-member', { path: { id: issue.id }, body: { more: 1 } });
  await call('repairIssue', 'invalid-json', { path: { id: issue.id }, body: '{' });
  await reused('repairIssue', { id: issue.id }, { by: 'one' }, { by: 'another' });
  await reused('autoRepair', {}, { dry_run: true }, {});
  await call('closeIssue', 'issue-over', { path: { id: issue.id }, body: { reason: 'r', by: 'b' } });
  await call('closeIssue', 'unknown-issue', { path: { id: nobody }, body: { reason: 'r', by: 'b' } });
  await call('closeIssue', 'invalid-value', { path: { id: issue.id }, body: { by: 'b' } });
  await call('closeIssue', 'unknown-member', { path: { id: issue.id }, body: { reason: 'r', by: 'b', more: 1 } });
  await call('closeIssue', 'invalid-json', { path: { id: issue.id }, body: '{' });
  psql(`INSERT INTO aethelos.evidence_mismatch (chain_id, event, hash, verdict, kind, who, reference) VALUES
    ('${completed}', 'PAYMENT_CONFIRMED', sha256(''), 'conflict', 'provider', 'p', 'r')`);
  await until('a mismatch is found', async () => (await found(completed))?.kind === 'EVIDENCE_MISMATCH');
  const mismatch = (await found(completed)).id;
  await reused('closeIssue', { id: mismatch }, { reason: 'r', by: 'one', dry_run: true }, { reason: 'r', by: 'another', dry_run: true });
  await call('closeIssue', 202, { path: { id: mismatch }, headers: { Prefer: 'respond-async' }, body: { reason: 'r', by: 'b', dry_run: true } });
  await call('closeIssue', 200, { path: { id: mismatch }, body: { reason: 'the provider said it twice', by: 'contract' } });
  check('it is over', (await call('getIssue', 200, { path: { id: mismatch } })).json.outcome === 'closed_by_person');

  await call('refundJob', 'completed', { path: { id: completed }, body: { reason: 'r', by: 'b' } });
  await call('refundJob', 'refunded', { path: { id: failed }, body: { reason: 'r', by: 'b' } });
  await call('refundJob', 'unknown-job', { path: { id: nobody }, body: { reason: 'r', by: 'b' } });
  await call('refundJob', 'invalid-value', { path: { id: failed }, body: { by: 'b' } });
  const unpaid = await job(text);
  await call('refundJob', 'not-paid', { path: { id: unpaid }, body: { reason: 'r', by: 'b' } });
  await call('refundJob', 202, { path: { id: unpaid }, headers: { Prefer: 'respond-async' }, body: { reason: 'r', by: 'b', dry_run: true } });
  await reused('closeJob', { id: unpaid }, { reason: 'r', by: 'one', dry_run: true }, { reason: 'r', by: 'another', dry_run: true });
  await call('closeJob', 'invalid-value', { path: { id: unpaid }, body: { by: 'b' } });
  const named = key();
  await call('closeJob', 200, { path: { id: unpaid }, headers: named, body: { reason: 'r', by: 'contract' } });
  await call('closeJob', 'key-reused', { path: { id: unpaid }, headers: named, body: { reason: 'another', by: 'contract' } });
  await call('closeJob', 'completed', { path: { id: completed }, body: { reason: 'r', by: 'b' } });
  await call('closeJob', 'unknown-job', { path: { id: nobody }, body: { reason: 'r', by: 'b' } });
  await call('redrive', 200, { body: { chain_id: unpaid, by: 'contract', reference: 'asked for' } });
  await call('redrive', 200, { body: { filter: { step: 'FINAL_FAIL' }, by: 'contract', dry_run: true } });
  await call('redrive', 'invalid-value', { body: { by: 'b' } });
  await reused('redrive', {}, { filter: {}, by: 'one', dry_run: true }, { filter: {}, by: 'another', dry_run: true });
  await call('redrive', 'unknown-job', { body: { chain_id: nobody, by: 'b' } });
  await call('redrive', 'refunded', { body: { chain_id: failed, by: 'b' } });
  await call('autoRepair', 200, { headers: named, body: { dry_run: true } });
  await call('autoRepair', 'invalid-value', { body: { dry_run: 1 } });
  await call('autoRepair', 'refused-command', { body: { kind: 'NONE' } });
  const stored = (await call('autoRepair', 202, { headers: { Prefer: 'respond-async' }, body: {} })).json.id;
  await until('the command is done', async () => (await call('getCommand', 200, { path: { id: stored } })).json.status === 'done');
  await call('getCommand', 'unknown-command', { path: { id: nobody } });
  for (const id of ['refundJob', 'closeJob', 'autoRepair', 'redrive', 'addRule', 'addHaste', 'openTask']) await call(id, 'invalid-json', { path: { id: failed }, body: '{' });
  await call('getRules', 200);
  await call('addRule', 200, { body: { kind: 'job', step: 'PRICED', late_s: 901, why: 'contract', by: 'contract' } });
  await call('addRule', 'refused-command', { body: { kind: 'job', step: 'NOTHING', why: 'contract', by: 'b' } });
  const rule = { kind: 'job', step: 'PRICED', why: 'contract', by: 'contract' };
  await reused('addRule', {}, { ...rule, late_s: 902 }, { ...rule, late_s: 903 });
  await call('addRule', 'invalid-value', { body: { kind: 'job', step: 'PRICED', by: 'b' } });
  await call('getHaste', 200);
  await call('addHaste', 200, { body: { label: 'contract', late_s: 2, deadline_s: 10, why: 'contract', by: 'contract' } });
  await call('addHaste', 200, { body: { label: 'contract', remove: true, why: 'contract', by: 'contract' } });
  const haste = { label: 'later', late_s: 2, deadline_s: 10, why: 'contract', by: 'contract' };
  await reused('addHaste', {}, haste, { ...haste, late_s: 3 });
  await call('addHaste', 'refused-command', { body: { label: 'contract', remove: true, why: 'contract', by: 'b' } });
  await call('addHaste', 'invalid-value', { body: { label: 'contract', by: 'b' } });
}

async function hooks(completed) {
  const hook = (await call('addWebhook', 201, { body: { url: 'http://127.0.0.1:1/hook', types: ['JOB_CREATED'] } })).json.id;
  const other = (await call('addWebhook', 201, { body: { url: 'http://127.0.0.1:1/hook', types: ['JOB_CREATED'], format: 'cloudevents' } })).json;
  check('a webhook has its format', other.format === 'cloudevents');
  await call('addWebhook', 'invalid-value', { body: { url: 'nothing' } });
  await call('addWebhook', 'invalid-value', { body: { url: 'http://127.0.0.1:1/', format: 'xml' } });
  await call('addWebhook', 'unknown-event', { body: { url: 'http://127.0.0.1:1/', types: ['NOTHING'] } });
  await call('addWebhook', 'invalid-json', { body: '{' });
  await call('getWebhooks', 200);
  await job('puz19:text_analysis');
  const delivery = await until('a delivery', async () => (await call('getDeliveries', 200, { path: { id: hook } })).json.items.find((d) => d.last_error));
  await call('getDeliveries', 'invalid-query', { path: { id: hook }, query: { state: 'lost' } });
  await call('getDeliveries', 'unknown-webhook', { path: { id: nobody } });
  await call('redeliver', 200, { path: { id: hook, delivery: delivery.id } });
  await call('redeliver', 'unknown-webhook', { path: { id: hook, delivery: '999999' } });
  await call('enableWebhook', 200, { path: { id: hook } });
  await call('enableWebhook', 'unknown-webhook', { path: { id: nobody } });
  for (let i = 0; i < 3; i++) await call('rotateWebhook', 200, { path: { id: hook }, body: { keep_s: 3600 } });
  await call('rotateWebhook', 'too-many-secrets', { path: { id: hook }, body: {} });
  await call('rotateWebhook', 200, { path: { id: hook }, body: { keep_s: 0 } });
  await call('rotateWebhook', 'invalid-value', { path: { id: hook }, body: { keep_s: -1 } });
  await call('rotateWebhook', 'invalid-json', { path: { id: hook }, body: '{' });
  await call('rotateWebhook', 'unknown-webhook', { path: { id: nobody } });
  await call('removeWebhook', 200, { path: { id: hook } });
  await call('removeWebhook', 'unknown-webhook', { path: { id: hook } });

  for (let i = (await call('getWebhooks', 200)).json.items.length; i < 64; i++)
    await call('addWebhook', 201, { body: { url: 'http://127.0.0.1:1/hook', types: ['CHAIN_REOPENED'] } });
  await call('addWebhook', 'too-many-webhooks', { body: { url: 'http://127.0.0.1:1/hook' } });

  const page = (await call('getEvents', 200, { query: { limit: 2 } })).json;
  await call('getEvents', 200, { query: { after: page.next, limit: 1000 } });
  await call('getEvents', 200, { query: { since: page.latest } });
  await call('getEvents', 'invalid-query', { query: { since: 'x' } });
  const own = (await call('getEvents', 200, { query: { chain: completed } })).json.items;
  check('events of one chain', own.length > 9 && own.every((e) => e.chain_id === completed), JSON.stringify(own));
  await call('getEvents', 'invalid-query', { query: { chain: 'x' } });
  await call('streamEvents', 200, { headers: { 'Last-Event-ID': '0.0.0' } });
  await call('streamEvents', 200, { query: { after: '0.0.0', type: 'PRICED,REVENUE_BOOKED', chain: completed } });
  await call('streamEvents', 'invalid-query', { query: { type: 'no such' } });

  // As CloudEvents: everywhere the same, and what others read.
  const format = 'cloudevents', chain = { path: { id: completed } };
  const listed = (await call('getEvents', 200, { query: { format, limit: 1000 } })).json.items.filter((e) => e.subject === completed).reverse();
  const ofJob = (await call('getJobEvents', 200, { ...chain, query: { format } })).json.items;
  const streamed = JSON.parse((await call('streamJobEvents', 200, { ...chain, query: { format } })).text.match(/^data: (.*)$/m)[1]);
  const live = JSON.parse((await call('streamEvents', 200, { query: { format, after: '0.0.0', chain: completed } })).text.match(/^data: (.*)$/m)[1]);
  const name = (e) => [e.source, e.id, e.type, e.chainversion].join(' ');
  same('an event has one name', listed.map(name), ofJob.map(name));
  check('on streams too', name(streamed) === name(ofJob[0]) && name(live) === name(ofJob[0]));
  const paid = ofJob.find((e) => e.type === 'aethelos.PAYMENT_CONFIRMED');
  check('outside without names', Object.keys(paid.data).join() === 'amount,evidence' && Object.keys(paid.data.evidence).join() === 'kind', JSON.stringify(paid));
  for (const e of listed) {
    const read = HTTP.toEvent({ headers: { 'content-type': 'application/cloudevents+json' }, body: JSON.stringify(e) });
    check('others read it', read.validate() && read.type.startsWith('aethelos.') && read.data, JSON.stringify(e));
  }
  await call('getEvents', 'invalid-query', { query: { format: 'xml' } });
  await call('streamEvents', 'invalid-query', { query: { format: 'xml' } });
  await call('getJobEvents', 'invalid-format', { ...chain, query: { format: 'xml' } });
  await call('streamJobEvents', 'invalid-format', { ...chain, query: { format: 'xml' } });
}

const psql = (sql) => execFileSync('psql', ['-qAt', stack.database_url, '-c', sql], { env: { ...process.env, PGPASSFILE: stack.database_passfile } });
// Streams that stay open, until one is refused.
async function crowd(id, most, options) {
  const o = operations[id], open = [];
  const target = o.route.replace('{id}', (options.path || {}).id);
  for (let i = 0; i < most; i++)
    open.push(await new Promise((done, fail) => {
      const headers = options.port === 'admin' ? { Authorization: 'Bearer ' + token } : {};
      const r = http.get(stack[options.port + '_url'] + target, { headers, agent: false }, (a) => done([r, a.statusCode]));
      r.on('error', fail);
    }));
  check(id + ' is open ' + most + ' times', open.every(([, status]) => status === 200), open.map(([, status]) => status));
  await call(id, 'too-many-streams', options);
  open.forEach(([r]) => (r.on('error', () => 0), r.destroy()));
}
// What is documented for when parts of the stack stand still or are away: pricing, payments, the database (for board alone), places for streams.
async function trouble() {
  const text = 'puz19:text_analysis', named = key();
  await standing('pricing', async () => {
    await call('submitJob', 202, { headers: { ...named, Prefer: 'respond-async' }, body: { type: text, payload: { text: 'not priced' } } });
    await call('getReceipt', 202, { path: { key: named['Idempotency-Key'] } });
  });
  const back = await job('nobody');
  await pay(back);
  await stands(back, 'EXECUTION_FAILED');
  await call('refundJob', 200, { path: { id: back }, body: { reason: 'nobody can do it', by: 'contract' } });
  await stands(back, 'REFUND_INITIATED');
  await standing('payments', () => call('confirmRefund', 202, { path: { id: back }, headers: { Prefer: 'respond-async' }, body: { reference: 'went back', by: 'contract' } }));
  await stands(back, 'FINAL_FAIL');
  const open = await job(text);
  await crowd('streamJobEvents', 8, { port: 'public', path: { id: open } });
  await crowd('streamEvents', 64, { port: 'admin' });
  psql("ALTER ROLE aethelos_board NOLOGIN; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'aethelos_board'");
  try {
    for (const id of ['getReady', 'getMetrics']) await call(id, 503, { port: 'admin' });
  } finally {
    psql('ALTER ROLE aethelos_board LOGIN');
  }
  await until('board is ready again', async () => (await ask('admin', 'GET', '/readyz', {})).status === 200);
}

async function main() {
  for (const port of ['public', 'admin']) {
    for (const id of ['getHealth', 'getReady']) {
      await call(id, 200, { port });
      await call(id, 'malformed-request', { port, headers: { 'Idempotency-Key': ['one', 'two'] } });
    }
  }
  const metrics = (await call('getMetrics', 200)).text;
  for (const service of ['pricing', 'payments', 'execution', 'ledger', 'payouts'])
    for (const figure of ['oldest_seconds', 'chains']) check('a queue is measured', new RegExp(`^aethelos_queue_${figure}\\{service="${service}"\\} [0-9.]+$`, 'm').test(metrics), metrics);
  await call('getMetrics', 'malformed-request', { headers: { 'Idempotency-Key': ['one', 'two'] } });
  await call('getOffers', 'malformed-request', { headers: { 'Idempotency-Key': ['one', 'two'] } });
  const { first, payout } = await jobs();
  await tasks(payout);
  await runs();
  await repair(first);
  await hooks(first);
  await trouble();
  for (const id of ['getOverview', 'getRevenue', 'getPayoutsSummary', 'getQuarantine']) await call(id, 200);
  await call('getQuarantine', 'invalid-query', { query: { after: 'x' } });
  for (const [id, o] of Object.entries(operations))
    if (o.security.some((s) => s.token))
      await call(id, 'unauthorized', { port: 'admin', path: { id: nobody, run_id: nobody, delivery: '1' }, headers: { Authorization: '' }, ...(o.requestBody ? { body: {} } : {}) });
  // Everything that happened, whole and as the public sees it.
  const types = new Set();
  for (let after; ; ) {
    const page = (await call('getEvents', 200, { query: { limit: 1000, ...(after ? { after } : {}) } })).json;
    for (const e of page.items) types.add(e.type);
    if (!(after = page.next)) break;
  }
  settle(`every answer is as docs/openapi.yaml says, with ${types.size} of ${openapi.components.schemas.Step.enum.length} types of events`);

  const all = Object.values(operations), documented = [], driven = [];
  same('operations with a good call', all.filter((o) => [...o.driven].some((s) => s < '3')).map((o) => o.operationId), all.map((o) => o.operationId));
  same('operations with an error', all.filter((o) => [...o.driven].some((s) => s >= '4')).map((o) => o.operationId), all.map((o) => o.operationId));
  for (const o of all)
    for (const s of Object.keys(o.responses).filter((s) => s !== 'default')) (o.driven.has(s) ? driven : documented).push(o.operationId + ' ' + s);
  same('documented answers that were not had', documented, []);
  settle(`${all.length} operations were driven, and all ${driven.length} documented answers were had`);
  process.exit(0);
}
process.on('unhandledRejection', (e) => (console.log(e), process.exit(1)));
main();
