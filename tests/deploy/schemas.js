// Objects against the schemas of the Kubernetes API (npm kubernetes-models), and what the schemas leave open: members that the API does not know, a typing
// error most often. A validator reads each member it knows, and no other, so what it never read is unknown.
const fs = require('fs');
const path = require('path');
const { pathToFileURL } = require('url');

function watched(value, where, watch) {
  if (!value || typeof value !== 'object') return value;
  const inner = {}, read = new Set();
  for (const [name, v] of Object.entries(value)) inner[name] = watched(v, where + '/' + name, watch);
  const target = Array.isArray(value) ? Object.values(inner) : inner;
  if (Array.isArray(value)) return target;
  watch.push(() => Object.keys(value).filter((name) => !read.has(name)).map((name) => where + '/' + name));
  return new Proxy(target, {
    get: (t, name) => (read.add(name), t[name]),
    ownKeys: (t) => (Object.keys(t).forEach((name) => read.add(name)), Reflect.ownKeys(t)), // a map: every key is welcome
  });
}

// What is wrong with it: [] or texts; null when there is no schema for it.
async function judge(object) {
  const file = path.join(process.env.NODE_PATH, 'kubernetes-models', object.apiVersion, 'index.js'); // an import by name would not look there
  if (!fs.existsSync(file)) return null;
  const models = await import(pathToFileURL(file));
  const Model = models[object.kind];
  if (!Model) return [`${object.apiVersion} has no ${object.kind}`];
  const watch = [], { apiVersion, kind, ...own } = object;
  const parts = Object.fromEntries(Object.entries(own).map(([name, v]) => [name, watched(v, '/' + name, watch)]));
  const faults = [];
  try {
    Object.assign(new Model(), parts).validate(); // not by the constructor, which would copy
  } catch (e) {
    faults.push(e.message.replaceAll('\n', '; '));
  }
  const known = ['metadata', 'spec', 'data', 'stringData', 'type', 'status', 'rules', 'roleRef', 'subjects', 'immutable', 'binaryData'];
  faults.push(...Object.keys(own).filter((name) => !known.includes(name)).map((name) => '/' + name + ' is unknown'));
  faults.push(...watch.flatMap((unknown) => unknown()).map((at) => at + ' is unknown'));
  return faults;
}

// A strategic merge as far as our patches go: maps are merged, lists of named things by name, other lists are replaced.
function merge(to, from) {
  if (Array.isArray(to) && Array.isArray(from) && from.every((x) => x && x.name))
    return [...to.map((x) => { const other = from.find((y) => y.name === x.name); return other ? merge(x, other) : x; }), ...from.filter((y) => !to.some((x) => x.name === y.name))];
  if (!to || !from || typeof to !== 'object' || typeof from !== 'object' || Array.isArray(to) || Array.isArray(from)) return from;
  const all = { ...to };
  for (const [name, v] of Object.entries(from)) all[name] = name in to ? merge(to[name], v) : v;
  return all;
}

module.exports = { judge, merge };
