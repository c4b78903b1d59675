// docs/openapi.yaml and proto/asyncapi.yaml against public validators, and against what the programs and the database say of themselves.
// usage: node documents.js BIN_DIR DATABASE_URL (PGPASSFILE in the environment)
const { execFileSync } = require('child_process');
const fs = require('fs');
const path = require('path');
const { Spectral, Document } = require('@stoplight/spectral-core');
const Parsers = require('@stoplight/spectral-parsers');
const { oas } = require('@stoplight/spectral-rulesets');
const { Parser } = require('@asyncapi/parser');
const { home, read, parse, check, same, settle } = require('./contract.js');

const [bin, database] = process.argv.slice(2);
const openapi = parse('docs/openapi.yaml');
const asyncapi = parse('proto/asyncapi.yaml');
const schemas = openapi.components.schemas;
const ask = (service, option) => execFileSync(path.join(bin, 'aethelos-' + service), [option], { encoding: 'utf8' }).trim().split('\n');
const rows = (sql) => execFileSync('psql', ['-qAt', database, '-c', 'SET search_path = aethelos', '-c', sql], { encoding: 'utf8' }).trim().split('\n');

async function valid() {
  const spectral = new Spectral();
  spectral.setRuleset({ extends: [oas] });
  const found = await spectral.run(new Document(read('docs/openapi.yaml'), Parsers.Yaml, path.join(home, 'docs/openapi.yaml')));
  for (const f of found) check('docs/openapi.yaml is sound', false, 'line ' + (f.range.start.line + 1) + ': ' + f.code + ': ' + f.message);
  settle('docs/openapi.yaml passes the rules of OpenAPI');
  const { diagnostics } = await new Parser().parse(read('proto/asyncapi.yaml'), { source: path.join(home, 'proto/asyncapi.yaml') });
  for (const d of diagnostics.filter((d) => d.severity < 2 || !latest.includes(d.code)))
    check('proto/asyncapi.yaml is sound', false, 'line ' + (d.range.start.line + 1) + ': ' + d.code + ': ' + d.message);
  settle('proto/asyncapi.yaml passes the rules of AsyncAPI');
}
const latest = ['asyncapi-latest-version']; // a hint that there is a later one

// --- HTTP ---

function routes() {
  const ports = { intake: ':3000', board: ':3001' };
  for (const [service, port] of Object.entries(ports)) {
    const documented = [];
    for (const [route, item] of Object.entries(openapi.paths))
      for (const [method, o] of Object.entries(item)) {
        if (!o.operationId || !item.servers.some((s) => s.url.endsWith(port))) continue;
        const token = service === 'board' && o.security.some((s) => s.token), key = (o.parameters || []).some((p) => p.$ref === '#/components/parameters/Key');
        documented.push([method.toUpperCase(), route, ...(token ? ['token'] : []), ...(key ? ['key'] : [])].join(' '));
      }
    same('the routes of ' + service + ', and no other', documented, ask(service, '--routes'));
  }
  settle('docs/openapi.yaml has the routes of the programs');
}

// The constraint "column IN (...)" of a table.
const allowed = (table, column) =>
  rows(`SELECT m[1] FROM pg_constraint c, regexp_matches(pg_get_constraintdef(c.oid), '''([^'']*)''::text', 'g') m WHERE c.conrelid = '${table}'::regclass` +
    ` AND c.contype = 'c' AND pg_get_constraintdef(c.oid) LIKE 'CHECK ((${column} = ANY%'`);

function enums() {
  const antibodies = ask('meta-repair', '--antibodies').map((l) => l.split('|').map((c) => c.trim())).filter((c) => c.length > 2 && /^\w+$/.test(c[1]) && !['Kind', 'Antibody'].includes(c[1]));
  const tables = {
    Step: rows('SELECT DISTINCT name FROM step'),
    ChainKind: rows('SELECT DISTINCT kind FROM step'),
    ChainStatus: allowed('step', 'status'),
    Lane: allowed('chain', 'lane'),
    Account: rows('SELECT name FROM account'),
    IssueKind: antibodies.filter((c) => c.length > 4).map((c) => c[1]),
    Antibody: antibodies.filter((c) => c.length === 4).map((c) => c[1]),
    IssueGrade: allowed('issue', 'grade'),
    IssueState: allowed('issue', 'state'),
    Party: allowed('step', 'waits_for'),
    RunState: allowed('operator_run', 'state'),
    DeliveryState: allowed('webhook_delivery', 'state'),
    EventFormat: allowed('webhook', 'format'),
    TaskKind: rows('SELECT name FROM task_kind'),
  };
  same('the types of events whose data has a schema', Object.keys(schemas).filter((n) => n.startsWith('EventData.')).map((n) => n.slice(10)), tables.Step);
  same('the types whose data is checked', schemas.Event.allOf.map((c) => c.if.properties.type.const), tables.Step);
  for (const [name, want] of Object.entries(tables)) same(name + ' of docs/openapi.yaml', schemas[name].enum, want);
  same('the commands', schemas.Command.properties.what.enum, allowed('repair_command', 'what'));
  same('the kinds of operators', schemas.Operator.properties.kind.enum, allowed('operator', 'kind'));
  same('the states of webhooks', schemas.Webhook.properties.state.enum, allowed('webhook', 'state'));
  same('the calls to a provider', schemas.Dossier.properties.provider_calls.items.properties.what.enum, allowed('provider_call', 'what'));
  same('their states', schemas.Dossier.properties.provider_calls.items.properties.state.enum, allowed('provider_call', 'state'));
  settle('its enumerations are those of the database and of meta-repair');
}

// Problems have no table of their own: their names stand where they are answered. Whatever has the form of one there is one.
function problems() {
  const other = new Set(['content-type', 'meta-repair', 'no-store', 'respond-async']);
  const code = ['common/http', 'services/intake', 'services/board', 'services/pricing'].flatMap((dir) =>
    fs.readdirSync(path.join(home, dir)).filter((f) => f.endsWith('.c')).map((f) => read(dir + '/' + f).replace(/^#.*$/gm, '')));
  const names = code.flatMap((text) => [
    ...[...text.matchAll(/"([a-z]+(?:-[a-z]+)+)"/g)].map((m) => m[1]),
    ...[...text.matchAll(/\b[45]\d\d, "([a-z-]+)"/g)].map((m) => m[1]),
  ]);
  same('the problems of docs/openapi.yaml', schemas.ProblemType.enum, names.filter((n) => !other.has(n) && !n.startsWith('ce-')).map((n) => '/problems/' + n));
  const told = Object.values(openapi.paths).flatMap((item) => Object.values(item)).filter((o) => o.responses).flatMap((o) => Object.values(o.responses));
  const texts = [...told, ...Object.values(openapi.components.responses)].map((r) => r.description || '').join(' ');
  const onBus = ['invalid-protobuf', 'unknown-key'].map((n) => '/problems/' + n);
  for (const n of schemas.ProblemType.enum.filter((n) => !onBus.includes(n)))
    check('a problem is told of where it is answered', texts.includes('`' + n.replace('/problems/', '') + '`'), n);
  settle('it knows every problem');
}

// --- the bus ---

function subjects() {
  const messages = asyncapi.components.messages, at = (r) => r.$ref.split('/').pop();
  const addresses = Object.values(asyncapi.channels).map((c) => c.address).filter((a) => a);
  const documented = Object.values(asyncapi.operations).flatMap((o) => {
    const channel = asyncapi.channels[at(o.channel)];
    return o['x-services'].map((service) => {
      const subject = channel.address.replace('{service}', service).replace(/\{\w+\}/g, '*');
      return [service, o.action === 'send' ? 'says' : 'hears', subject, messages[at(Object.values(channel.messages)[0])].name].join(' ');
    });
  });
  const services = fs.readdirSync(path.join(home, 'services'));
  same('what the programs say and hear', documented, services.flatMap((service) => ask(service, '--subjects').map((l) => service + ' ' + l)));
  same('every channel is used', Object.values(asyncapi.operations).map((o) => at(o.channel)), Object.keys(asyncapi.channels).filter((c) => c !== 'reply'));

  // subjects.h: a format, or a beginning that the client follows.
  const header = read('proto/subjects.h'), defined = {};
  for (const [, name, text] of header.matchAll(/#define (SUBJECT_\w+)\s+([^/\n]+)/g))
    defined[name] = text.trim().split(/\s+/).map((t) => (t.startsWith('"') ? t.slice(1, -1) : defined[t])).join('');
  const shapes = Object.values(defined).map((d) => d.replace(/%s/g, '*').replace(/\.$/, '.*'));
  same('the subjects of subjects.h', [...new Set(addresses.map((a) => a.replace(/aethelos\.hop\.(?!intake)[a-z-]+/, 'aethelos.hop.*').replace(/\{\w+\}/g, '*')))], shapes);
  for (const [, name] of header.matchAll(/#define STREAM_\w+\s+"(\w+)"/g))
    check('a stream is told of', Object.values(asyncapi.channels).some((c) => (c.description || '').includes('Stream ' + name)), name);
  settle('proto/asyncapi.yaml has the subjects of the programs and of subjects.h');
}

// aethelos.proto: each message and field, what must be there, and of which kind; each enumeration, in lower case.
function messages() {
  const kinds = { int32: 'integer', int64: 'integer', uint32: 'integer', string: 'string', bool: 'boolean' };
  const of = asyncapi.components.schemas, resolve = (s) => (s.$ref ? of[s.$ref.split('/').pop()] : s);
  const text = read('proto/aethelos.proto').replace(/\/\/.*$/gm, '');
  const enumerations = Object.fromEntries([...text.matchAll(/enum (\w+) \{([^}]*)\}/g)].map(([, n, b]) => [n, [...b.matchAll(/(\w+) = \d+/g)].map((m) => m[1].toLowerCase())]));
  const found = new Set();
  const compare = (name, body, schema) => {
    check(name + ' has a schema', schema);
    if (!schema) return;
    for (const [, inner, innerBody] of body.matchAll(/message (\w+) \{([^}]*)\}/g)) compare(name + '.' + inner, innerBody, schema.properties.items.items);
    const fields = [...body.replace(/message \w+ \{[^}]*\}/g, '').matchAll(/(required|optional|repeated) (\w+) (\w+) = \d+;/g)];
    same('the fields of ' + name, Object.keys(schema.properties), fields.map((f) => f[3]));
    same('what ' + name + ' must have', schema.required || [], fields.filter((f) => f[1] === 'required').map((f) => f[3]));
    for (const [, label, kind, field] of fields) {
      const s = resolve(schema.properties[field] || {});
      if (label === 'repeated') check(name + '.' + field, s.type === 'array');
      else if (kinds[kind]) check(name + '.' + field, s.type === kinds[kind], s.type);
      else if (enumerations[kind]) same(name + '.' + field, s.enum, enumerations[kind]);
      else if (kind !== 'bytes') check(name + '.' + field, s === of[kind], 'is no ' + kind);
    }
  };
  for (const [, name, body] of text.matchAll(/^message (\w+) \{((?:[^{}]|\{[^{}]*\})*)^\}/gm)) {
    found.add(name);
    compare(name, body, of[name]);
  }
  check('the messages were found', found.has('Envelope') && found.has('Receipt') && found.size === (text.match(/^message /gm) || []).length);
  for (const [name, values] of Object.entries(enumerations)) same('the enumeration ' + name, (of[name] || {}).enum || [], values);
  for (const [name] of Object.entries(asyncapi.components.messages).filter(([, m]) => m['x-encodings'].includes('protobuf')))
    check('what is said in protobuf is in aethelos.proto', found.has(name), name);
  // What both documents have says the same in both. A receipt over HTTP and a submission with its key over the bus are their own.
  for (const name of Object.keys(of).filter((n) => schemas[n] && !['Receipt', 'Submission'].includes(n)))
    check('both documents say the same of ' + name, equal(of[name], schemas[name]));
  settle('it has the messages of aethelos.proto');
}
const own = { description: '', allOf: [] }; // what an event holds by its type stands in docs/openapi.yaml alone
const equal = (a, b) => JSON.stringify({ ...a, ...own }) === JSON.stringify({ ...b, ...own });

valid().then(() => {
  routes();
  enums();
  problems();
  subjects();
  messages();
});
