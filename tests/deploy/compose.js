// The compose file, as far as it can be tried without a container engine: its references are whole, and the programs it names run with exactly the
// settings, secrets and order it gives them, on a PostgreSQL and a nats-server of this machine, until one paid job is through.
// usage: node compose.js BIN_DIR WORK_DIR
const { spawn, spawnSync, execFileSync } = require('child_process');
const fs = require('fs');
const net = require('net');
const path = require('path');
const { home, services, role, check, same, settle, documents } = require('./files.js');

const [bin, work] = process.argv.slice(2);
const here = path.join(home, 'compose');
const variables = { AETHELOS_UID: '1000', AETHELOS_GID: '1000' }; // what ./setup puts into .env

function interpolate(value) {
  if (typeof value === 'string')
    return value
      .replace(/\$\{(\w+)(?::([-?])([^}]*))?\}/g, (all, name, kind, rest) => {
        if (variables[name]) return variables[name];
        if (kind === '-') return rest;
        throw new Error(all + ' has no value');
      })
      .replace(/\$\$/g, '$');
  if (Array.isArray(value)) return value.map(interpolate);
  if (value && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, interpolate(v)]));
  return value;
}

const compose = interpolate(documents(path.join(here, 'docker-compose.yml'))[0]);
const engines = ['postgres', 'nats'];
const helpers = ['volumes', 'migrate', 'secrets', 'tools'];
const secretsOf = (s) => (s.secrets || []).map((x) => (typeof x === 'string' ? { source: x, target: x } : x));

// --- references ---

same('every service of the code, and no other', Object.keys(compose.services), [...services, ...engines, ...helpers]);
for (const [name, s] of Object.entries(compose.services)) {
  const limits = s.deploy && s.deploy.resources.limits;
  check(name + ' has limits', limits && limits.cpus && limits.memory && s.pids_limit);
  check(name + ' cannot write its root', s.read_only === true);
  check(name + ' has no privileges', String(s.cap_drop) === 'ALL' && s.security_opt.includes('no-new-privileges:true'));
  check(name + ' is not root', name === 'volumes' || s.user === '1000:1000', s.user);
  for (const x of secretsOf(s)) check(name + ' names a secret that is there', compose.secrets[x.source], x.source);
  for (const v of s.volumes || []) {
    const from = v.split(':')[0];
    check(name + ' names a volume that is there', from.startsWith('./') || from in compose.volumes, from);
  }
  for (const n of s.networks || []) check(name + ' names a network that is there', n in compose.networks, n);
  for (const d of Object.keys(s.depends_on || {})) check(name + ' depends on what is there', compose.services[d], d);
  for (const p of s.ports || []) {
    check(name + ' is published on loopback', p.startsWith('127.0.0.1:'), p);
    check(name + ' is published from a network that leads outside', s.networks.some((n) => !(compose.networks[n] || {}).internal));
  }
}
for (const name of services) {
  const s = compose.services[name];
  if (!s) continue;
  same(name + ' runs its program', s.command, ['aethelos-' + name]);
  check(name + ' has a health check', s.healthcheck && s.healthcheck.test[1].includes(s.environment.AETHELOS_READY_FILE));
  check(name + ' starts after the migrations', s.depends_on.migrate.condition === 'service_completed_successfully');
  const at = Object.fromEntries(secretsOf(s).map((x) => ['/run/secrets/' + x.target, x.source]));
  check(name + ' has its own role', at[s.environment.AETHELOS_DATABASE_PASSWORD_FILE] === 'role_' + name);
  check(name + ' has its own bus user', at[s.environment.AETHELOS_NATS_PASSWORD_FILE] === 'nats_' + name);
  check(name + ' has the password of its role', compose.secrets['role_' + name].file.endsWith('/roles/' + role(name)));
  check(name + ' has the password of its bus user', compose.secrets['nats_' + name].file.endsWith('/nats/' + name));
}
const image = fs.readFileSync(path.join(here, 'Dockerfile'), 'utf8');
const launcher = fs.readFileSync(path.join(home, 'aethelos'), 'utf8');
const [, list] = launcher.match(/^programs=\(aethelos aethelos-migrate aethelos-\{([^}]*)\}\)/m);
same('the launcher builds every service', list.split(','), services);
const [, packages] = launcher.match(/^packages=\(([^)]*)\)/m);
for (const p of packages.split(/\s+/).filter((p) => !['nats-server', 'postgresql'].includes(p)))
  check('the image is built with the packages of the launcher', image.includes(' ' + p), p);
settle('the compose file is whole');

// --- the same programs, settings and secrets ---

const user = process.getuid() === 0 ? { uid: id('-u'), gid: id('-g') } : {}; // PostgreSQL refuses root
function id(option) {
  return Number(execFileSync('id', [option, 'postgres'], { encoding: 'utf8' }));
}
async function freePort() {
  const server = net.createServer();
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}
const children = [];
let translations = [];

// What a path, host or port of the container is on this machine.
function local(name, value) {
  const s = compose.services[name];
  const paths = [['/usr/share/aethelos', home], ['/run/aethelos', path.join(work, 'run', name)]];
  for (const x of secretsOf(s)) paths.push(['/run/secrets/' + x.target, path.join(work, compose.secrets[x.source].file)]);
  for (const v of s.volumes || []) {
    const [from, to] = v.split(':');
    paths.push([to, path.join(work, from)]);
  }
  for (const [from, to] of [...paths.sort((a, b) => b[0].length - a[0].length), ...translations]) value = value.split(from).join(to);
  return value;
}
function environment(name) {
  const list = Object.entries(compose.services[name].environment || {}).map(([k, v]) => [k, local(name, String(v))]);
  // The sanitizers' options are the test's own affair.
  return { PATH: bin + ':' + process.env.PATH, AETHELOS_HOME: home, ASAN_OPTIONS: process.env.ASAN_OPTIONS || '', ...Object.fromEntries(list) };
}
function run(name, command, ...more) {
  const argv = [...(compose.services[name].entrypoint || []), ...command.map((c) => local(name, c)), ...more];
  const r = spawnSync(argv[0], argv.slice(1), { env: environment(name), encoding: 'utf8', ...user });
  check(argv.join(' '), r.status === 0, (r.error || '') + r.stdout + r.stderr);
  if (r.status !== 0) end(1);
  return r.stdout;
}
function start(name, argv) {
  const log = fs.openSync(path.join(work, name + '.log'), 'a');
  const child = spawn(argv[0], argv.slice(1), { env: environment(name), stdio: ['ignore', log, log], ...user });
  child.ended = new Promise((done) => child.on('exit', (code, signal) => done(signal || code)));
  children.push([name, child]);
  return child;
}
async function until(what, good) {
  for (let i = 0; i < 1200; i++) {
    if (await good()) return;
    await new Promise((done) => setTimeout(done, 25));
  }
  check(what, false, 'not within 30 s');
  end(1);
}
function healthy(name) {
  const [kind, ...rest] = compose.services[name].healthcheck.test;
  const argv = (kind === 'CMD-SHELL' ? ['sh', '-c', ...rest] : rest).map((a) => local(name, a));
  return spawnSync(argv[0], argv.slice(1)).status === 0;
}
function end(status) {
  for (const [name, child] of children) {
    child.kill('SIGKILL');
    if (status) process.stdout.write(spawnSync('tail', ['-n', '5', path.join(work, name + '.log')], { encoding: 'utf8' }).stdout);
  }
  process.exit(status);
}
process.on('uncaughtException', (e) => (console.log(e), end(1)));

async function main() {
  const ports = { postgres: await freePort(), nats: await freePort(), monitor: await freePort(), intake: await freePort(), board: await freePort() };
  translations = [
    ['host=postgres port=5432', 'host=127.0.0.1 port=' + ports.postgres], ['nats:4222', '127.0.0.1:' + ports.nats], ['0.0.0.0', '127.0.0.1'],
    ['intake:3000', '127.0.0.1:' + ports.intake], ['board:3001', '127.0.0.1:' + ports.board],
  ];
  for (const name of services) fs.mkdirSync(path.join(work, 'run', name), { recursive: true });
  for (const d of ['state', 'backups', 'postgres', 'nats']) fs.mkdirSync(path.join(work, d), { recursive: true, mode: 0o700 });
  if (user.uid !== undefined) execFileSync('chown', ['-R', user.uid + ':' + user.gid, work]);
  run('secrets', compose.services.secrets.command);

  // PostgreSQL as the entrypoint of its image starts it.
  const pg = compose.services.postgres, e = environment('postgres'), data = e.PGDATA;
  const tools = fs.readdirSync('/usr/lib/postgresql').sort((a, b) => b - a).map((v) => '/usr/lib/postgresql/' + v + '/bin').find((d) => fs.existsSync(d + '/initdb'));
  const owner = ['-U', e.POSTGRES_USER, '-h', '127.0.0.1', '-p', String(ports.postgres)];
  const initdb = spawnSync(tools + '/initdb', ['-D', data, '--username', e.POSTGRES_USER, '--pwfile', e.POSTGRES_PASSWORD_FILE, '--auth=scram-sha-256',
    '--no-sync', ...e.POSTGRES_INITDB_ARGS.split(' ')], { encoding: 'utf8', ...user });
  check('initdb', initdb.status === 0, initdb.stderr);
  start('postgres', [tools + '/' + pg.command[0], '-D', data, '-p', String(ports.postgres), '-c', 'unix_socket_directories=', ...pg.command.slice(1)]);
  await until('PostgreSQL', () => spawnSync(tools + '/pg_isready', ['-q', ...owner]).status === 0);
  const created = spawnSync('psql', ['-q', ...owner, '-d', 'postgres', '-c', 'CREATE DATABASE ' + e.POSTGRES_DB],
    { env: { ...process.env, PGPASSWORD: fs.readFileSync(e.POSTGRES_PASSWORD_FILE, 'utf8').trim() }, encoding: 'utf8' });
  check('the database', created.status === 0, created.stderr);

  // nats-server with the configuration of the compose file; before 2.10 it knows no sync_interval.
  const old = /v2\.[0-9]\./.test(execFileSync('nats-server', ['--version'], { encoding: 'utf8' }));
  let conf = fs.readFileSync(path.join(here, 'nats-server.conf'), 'utf8');
  check('the broker syncs always', conf.includes('sync_interval: always'));
  if (old) conf = conf.replace(', sync_interval: always', '');
  conf = conf.replace('0.0.0.0:4222', '127.0.0.1:' + ports.nats).replace('127.0.0.1:8222', '127.0.0.1:' + ports.monitor);
  fs.writeFileSync(path.join(work, 'nats-server.conf'), conf.replace('"/data"', '"' + path.join(work, 'nats') + '"'));
  fs.symlinkSync('state/nats', path.join(work, 'users'));
  start('nats', ['nats-server', '-c', path.join(work, 'nats-server.conf')]);
  await until('the broker', () => fetch('http://127.0.0.1:' + ports.monitor + '/healthz').then((a) => a.ok, () => false));
  settle('the engines take what the compose file gives them' + (old ? ' (but for sync_interval, which this nats-server is too old for)' : ''));

  run('migrate', compose.services.migrate.command);
  for (const name of ['intake', 'board']) compose.services[name].environment.AETHELOS_PORT = String(ports[name]);
  for (const name of services) start(name, compose.services[name].command);
  for (const name of services) await until(name + ' is healthy', () => healthy(name));
  settle('every service is healthy');
  const said = run('tools', ['run', home + '/examples/numeric-analysis.json']);
  check('a paid job goes through', said.includes('owner_payable'), said);
  run('tools', ['backup', '/backups/one']);
  check('a backup is made', fs.existsSync(path.join(work, 'backups/one/SHA256SUMS')));
  run('tools', ['migrate', '--check']);
  settle('a paid job, a backup, and the check of the migrations');

  const ours = children.filter(([name]) => services.includes(name));
  for (const [, child] of ours) child.kill('SIGTERM');
  for (const [name, child] of ours) {
    const code = await child.ended;
    check(name + ' drains', code === 0, String(code));
    check(name + ' is not healthy any more', !healthy(name));
  }
  settle('every service drains');
  end(0);
}
main();
