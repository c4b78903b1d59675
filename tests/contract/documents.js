// docs/openapi.yaml and proto/asyncapi.yaml against public validators, and against what the programs and the database say of themselves.
// usage: node documents.js BIN_DIR DATABASE_URL (PGPASSFILE in the environment)
const { execFileSync } = require('child_process');
const fs = require('fs');
const path = require('path');
const { Spectral, Document } = require('@stoplight/spectral-core');
const Parsers = require('@stoplight/spectral-parsers');
const { oas } = require('@stoplight/spectral-rulesets');
const { home, read, parse, check, same, settle } = require('./contract.js');

const [bin, database] = process.argv.slice(2);
const openapi = parse('docs/openapi.yaml');
const schemas = openapi.components.schemas;
const ask = (service, option) => execFileSync(path.join(bin, 'aethelos-' + service), [option], { encoding: 'utf8' }).trim().split('\n');
const rows = (sql) => execFileSync('psql', ['-qAt', database, '-c', 'SET search_path = aethelos', '-c', sql], { encoding: 'utf8' }).trim().split('\n');

async function valid() {
  const spectral = new Spectral();
  spectral.setRuleset({ extends: [oas] });
  const found = await spectral.run(new Document(read('docs/openapi.yaml'), Parsers.Yaml, path.join(home, 'docs/openapi.yaml')));
  for (const f of found) check('docs/openapi.yaml is sound', false, 'line ' + (f.range.start.line + 1) + ': ' + f.code + ': ' + f.message);
  settle('docs/openapi.yaml passes the rules of OpenAPI');
}

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
    TaskKind: rows('SELECT name FROM task_kind'),
  };
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
  const other = new Set(['meta-repair', 'no-store', 'respond-async']);
  const code = ['common/http', 'services/intake', 'services/board', 'services/pricing'].flatMap((dir) =>
    fs.readdirSync(path.join(home, dir)).filter((f) => f.endsWith('.c')).map((f) => read(dir + '/' + f).replace(/^#.*$/gm, '')));
  const names = code.flatMap((text) => [
    ...[...text.matchAll(/"([a-z]+(?:-[a-z]+)+)"/g)].map((m) => m[1]),
    ...[...text.matchAll(/\b[45]\d\d, "([a-z-]+)"/g)].map((m) => m[1]),
  ]);
  same('the problems of docs/openapi.yaml', schemas.ProblemType.enum, names.filter((n) => !other.has(n)).map((n) => '/problems/' + n));
  const told = Object.values(openapi.paths).flatMap((item) => Object.values(item)).filter((o) => o.responses).flatMap((o) => Object.values(o.responses));
  const texts = [...told, ...Object.values(openapi.components.responses)].map((r) => r.description || '').join(' ');
  const onBus = ['invalid-protobuf', 'too-large', 'unknown-key'].map((n) => '/problems/' + n);
  for (const n of schemas.ProblemType.enum.filter((n) => !onBus.includes(n)))
    check('a problem is told of where it is answered', texts.includes('`' + n.replace('/problems/', '') + '`'), n);
  settle('it knows every problem');
}

valid().then(() => {
  routes();
  enums();
  problems();
});
