// The manifests, as far as they can be tried without a cluster: every service of the code is there, what is named exists, and the settings are those of
// the compose file. With kubectl on this machine both overlays are rendered, too.
// usage: node kubernetes.js WORK_DIR (a copy of kubernetes/ with secrets in base/state)
const { spawnSync } = require('child_process');
const fs = require('fs');
const path = require('path');
const yaml = require('yaml');
const { home, services, role, check, same, settle, documents } = require('./files.js');
const { judge, merge } = require('./schemas.js');

const [work] = process.argv.slice(2);
const base = path.join(work, 'base');
const kustomization = (dir) => documents(path.join(dir, 'kustomization.yaml'))[0];
const of = (objects, kind) => objects.filter((o) => o.kind === kind);
const names = (objects) => objects.map((o) => o.metadata.name);

// Everything that a kustomization brings, its bases included, not patched.
function load(dir) {
  const k = kustomization(dir);
  return k.resources.flatMap((r) => {
    const to = path.join(dir, r);
    check(path.join(dir, r) + ' is there', fs.existsSync(to));
    return fs.statSync(to).isDirectory() ? load(to) : documents(to);
  });
}

const k = kustomization(base);
const objects = load(base);
const deployments = of(objects, 'Deployment');
same('a Deployment for every service', names(deployments), services);

const compose = documents(path.join(home, 'compose/docker-compose.yml'))[0];
const shared = documents(path.join(base, 'service.yaml'))[0].spec.template.spec;
const settings = k.configMapGenerator.find((c) => c.name === 'aethelos').literals.map((l) => l.split('=')[0]);
same('the settings of the compose file', settings, Object.keys(compose['x-environment']));
const keys = Object.fromEntries(k.secretGenerator.map((s) => [s.name, s.files.map((f) => (f.includes('=') ? f.split('=')[0] : path.basename(f)))]));
for (const s of k.secretGenerator)
  for (const f of s.files) check('aethelos secrets makes ' + f, fs.existsSync(path.join(base, f.split('=').pop())));

for (const d of deployments) {
  const name = d.metadata.name, pod = d.spec.template, container = pod.spec.containers[0];
  same(name + ' runs its program', container.command, ['aethelos-' + name]);
  check(name + ' takes what all share', container.name === shared.containers[0].name && d.metadata.labels['app.kubernetes.io/component'] === 'service');
  check(name + ' finds its pods', Object.entries(d.spec.selector.matchLabels).every(([l, v]) => pod.metadata.labels[l] === v));
  check(name + ' mounts its own secret', pod.spec.volumes.find((v) => v.name === 'secrets').secret.secretName === name);
  const files = Object.fromEntries(k.secretGenerator.find((s) => s.name === name).files.map((f) => f.split('=')));
  check(name + ' has its own role', files.database === 'state/secrets/roles/' + role(name));
  check(name + ' has its own bus user', files.nats === 'state/secrets/nats/' + name);
  const own = Object.fromEntries((container.env || []).map((e) => [e.name, e.value]));
  const want = Object.entries(compose.services[name].environment).filter(([e]) => !settings.includes(e));
  same(name + ' has the further settings of the compose file', Object.keys(own), want.map(([e]) => e));
  for (const [e, v] of Object.entries(own)) if (e.endsWith('_FILE')) check(name + ': ' + e + ' is a key of its secret', keys[name].includes(path.basename(v)), v);
}
for (const l of k.configMapGenerator.find((c) => c.name === 'aethelos').literals) {
  const [e, v] = [l.slice(0, l.indexOf('=')), l.slice(l.indexOf('=') + 1)];
  if (e.endsWith('PASSWORD_FILE')) for (const s of services) check(e + ' is a key of the secret of ' + s, keys[s].includes(path.basename(v)), v);
}
const probe = (p) => shared.containers[0][p].exec.command.join(' ');
const ready = k.configMapGenerator[0].literals.find((l) => l.startsWith('AETHELOS_READY_FILE=')).split('=')[1];
for (const p of ['readinessProbe', 'livenessProbe']) check(p + ' looks at the ready file', probe(p).includes(ready));
check('readiness is what the compose file asks', probe('readinessProbe').replace(/.*test/, 'test') === compose['x-service'].healthcheck.test[1].replace('$$', '$'));

for (const overlay of ['single', 'production']) {
  const dir = path.join(work, 'overlays', overlay);
  const all = load(dir);
  const pods = all.map((o) => o.spec && o.spec.template && o.spec.template.metadata && o.spec.template.metadata.labels).filter(Boolean);
  for (const c of of(all, 'Cluster')) pods.push({ 'cnpg.io/cluster': c.metadata.name }); // the operator puts it there
  // Labels that somebody outside this namespace's files carries.
  const theirs = ['aethelos/admin', 'aethelos/metrics', 'aethelos/publisher'];
  const chosen = (selector) => [
    ...Object.entries((selector || {}).matchLabels || {}).map(([l, v]) => [l, [v]]),
    ...((selector || {}).matchExpressions || []).map((e) => [e.key, e.values]),
  ];
  const exists = (what, selector) => {
    for (const [l, values] of chosen(selector))
      for (const v of values) check(overlay + ': ' + what + ' chooses pods that are there', theirs.includes(l) || pods.some((p) => p[l] === v), l + '=' + v);
  };
  for (const p of of(all, 'NetworkPolicy')) {
    exists('policy ' + p.metadata.name, p.spec.podSelector);
    for (const rule of [...(p.spec.ingress || []).map((r) => r.from || []), ...(p.spec.egress || []).map((r) => r.to || [])].flat())
      exists('policy ' + p.metadata.name, rule.podSelector);
  }
  if (overlay === 'production') {
    const calls = services.filter((s) => compose.services[s].networks.includes('outside') && !compose.services[s].ports);
    const policy = of(all, 'NetworkPolicy').find((p) => p.metadata.name === 'outside');
    same('those that call somebody outside', policy.spec.podSelector.matchExpressions[0].values, calls);
  }
  for (const s of of(all, 'Service')) exists('service ' + s.metadata.name, { matchLabels: s.spec.selector });
  for (const b of of(all, 'PodDisruptionBudget')) exists('budget ' + b.metadata.name, b.spec.selector);
  for (const h of of(all, 'HorizontalPodAutoscaler')) {
    check('autoscaler ' + h.metadata.name, services.includes(h.spec.scaleTargetRef.name) && h.spec.scaleTargetRef.name === h.metadata.name);
    for (const m of h.spec.metrics.filter((m) => m.external)) {
      check('autoscaler ' + h.metadata.name + ' looks at its own queue', m.external.metric.selector.matchLabels.service === h.metadata.name);
      check('autoscaler ' + h.metadata.name + ' looks at a figure of board', fs.readFileSync(path.join(home, 'services/board/board_figures_store.c'), 'utf8').includes(m.external.metric.name));
    }
  }
  if (overlay === 'production') same('every service and the broker have a budget', names(of(all, 'PodDisruptionBudget')), [...services, 'nats']);
  const database = names(of(all, 'Service')).includes('postgres-rw') || of(all, 'Cluster').some((c) => c.metadata.name + '-rw' === 'postgres-rw');
  check(overlay + ' has the database of the settings', database);
}
settle('the manifests are whole');

// The same with the patches of every kustomization on the way laid over it.
function patched(dir) {
  const k = kustomization(dir);
  let objects = k.resources.flatMap((r) => (fs.statSync(path.join(dir, r)).isDirectory() ? patched(path.join(dir, r)) : documents(path.join(dir, r))));
  for (const p of k.patches || []) {
    const change = p.path ? documents(path.join(dir, p.path))[0] : yaml.parse(p.patch);
    const [label, value] = (p.target.labelSelector || '').split('=');
    const meant = (o) => o.kind === p.target.kind && (!p.target.name || o.metadata.name === p.target.name) && (!label || (o.metadata.labels || {})[label] === value);
    check(path.join(dir, p.path || 'kustomization.yaml') + ' changes something', objects.some(meant));
    objects = objects.map((o) => {
      if (!meant(o)) return o;
      if (!Array.isArray(change)) return { ...merge(o, change), metadata: o.metadata };
      const copy = structuredClone(o);
      for (const { op, path: at, value } of change) {
        const keys = at.split('/').slice(1), last = keys.pop(), to = keys.reduce((x, key) => x[key], copy);
        check(`${op} ${at} is there`, op === 'replace' && last in to);
        to[last] = value;
      }
      return copy;
    });
  }
  return objects;
}

async function schemas(overlay, objects) {
  const theirs = ['Cluster']; // of the operator of PostgreSQL: no schema of the API
  for (const o of objects) {
    const faults = await judge(o);
    if (faults === null) check(`${overlay}: ${o.kind} ${o.metadata.name} has a schema`, theirs.includes(o.kind), o.apiVersion);
    for (const f of faults || []) check(`${overlay}: ${o.kind} ${o.metadata.name}`, false, f);
  }
}

async function main() {
  // A judge that finds nothing wrong anywhere is none.
  const bad = (spec) => judge({ apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'x' }, spec: merge({ selector: {}, template: { spec: { containers: [{ name: 'a', image: 'b' }] } } }, spec) });
  same('what is right is right', await bad({}), []);
  check('another type is found', (await bad({ replicas: '2' })).join().includes('integer'));
  check('an unknown member is found', (await bad({ template: { spec: { containers: [{ name: 'a', imagee: 'b' }] } } })).join().includes('imagee is unknown'));
  for (const overlay of ['single', 'production']) await schemas(overlay, patched(path.join(work, 'overlays', overlay)));
  settle('the manifests are what the Kubernetes API takes');
  await rendered();
}

async function rendered() {
  if (spawnSync('kubectl', ['version', '--client']).status !== 0) return console.log('SKIPPED: kubectl is not here, nothing is rendered');
  for (const overlay of ['single', 'production']) {
    const r = spawnSync('kubectl', ['kustomize', path.join(work, 'overlays', overlay)], { encoding: 'utf8', maxBuffer: 1 << 26 });
    check('kustomize renders ' + overlay, r.status === 0, r.stderr);
    const file = path.join(work, overlay + '.yaml');
    fs.writeFileSync(file, r.stdout);
    const all = documents(file);
    const made = new Set(all.map((o) => o.kind + '/' + o.metadata.name));
    const refer = (o, at) => {
      if (!o || typeof o !== 'object') return;
      const secret = o.secretName || (at.startsWith('secret') && o.name) || (at === 'passwordSecret' && o.name);
      if (secret) check(overlay + ': rendered secret', made.has('Secret/' + secret), secret);
      if ((at.startsWith('configMap') || at === 'configMapRef') && o.name) check(overlay + ': rendered settings', made.has('ConfigMap/' + o.name), o.name);
      for (const [name, v] of Object.entries(o)) refer(v, Array.isArray(o) ? at : name);
    };
    for (const o of all) if (o.spec) refer(o.spec, '');
    for (const d of of(all, 'Deployment')) {
      const c = d.spec.template.spec.containers[0];
      check(overlay + ': ' + d.metadata.name + ' has what all share', c.readinessProbe && c.securityContext.readOnlyRootFilesystem && c.envFrom && d.spec.template.spec.volumes.length === 2);
      check(overlay + ': ' + d.metadata.name + ' is doubled in production', (d.spec.replicas || 1) === (overlay === 'single' ? 1 : 2));
    }
    for (const o of of(all, 'Secret')) for (const [name, v] of Object.entries(o.data)) o.data[name] = v.replace(/\s/g, ''); // long ones are broken into lines
    await schemas(overlay, all);
    settle('kustomize renders ' + overlay);
  }
}
process.on('unhandledRejection', (e) => (console.log(e), process.exit(1)));
main();
