// What the contract tests share: the two documents, and validators of their schemas. Schemas are made strict here: a member of an answer that the document
// does not know is an error, although a client ignores it.
const fs = require('fs');
const path = require('path');
const yaml = require('yaml');
const Ajv = require('ajv/dist/2020').default;
const formats = require('ajv-formats').default;

const home = path.resolve(__dirname, '../..');
const read = (file) => fs.readFileSync(path.join(home, file), 'utf8');
const parse = (file) => yaml.parse(read(file), { maxAliasCount: -1 });

let failures = 0;
function check(what, good, detail = '') {
  if (good) return true;
  failures++;
  console.log('NOT ok: ' + what + (detail ? ': ' + detail : ''));
  return false;
}
// Two lists of names that must be the same.
function same(what, got, want) {
  const a = new Set(got), b = new Set(want);
  const more = [...a].filter((x) => !b.has(x)), less = [...b].filter((x) => !a.has(x));
  check(what, more.length + less.length === 0, [...more.map((x) => '+' + x), ...less.map((x) => '-' + x)].join(' '));
}
function settle(what) {
  if (failures > 0) process.exit(1);
  console.log('ok: ' + what);
}

// Of what comes from the stack: an object says which members it has. What is sent (an object with additionalProperties said) stays as it is.
function strict(schema, whole = true) {
  if (Array.isArray(schema)) return schema.map((s) => strict(s));
  if (!schema || typeof schema !== 'object') return schema;
  const inner = (k, v) => (['examples', 'enum'].includes(k) ? v : strict(v, !['if', 'then'].includes(k))); // a condition names a part
  const s = Object.fromEntries(Object.entries(schema).filter(([k]) => !k.startsWith('x-')).map(([k, v]) => [k, inner(k, v)]));
  if (whole && s.properties && !('additionalProperties' in s) && !Array.isArray(s.properties)) s.additionalProperties = false;
  return s;
}

// validator(document)(schema)(value): null, or what is wrong.
function validator(document) {
  const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: true });
  formats(ajv);
  const components = strict(document.components);
  ajv.addSchema({ $id: 'http://contract/document', components });
  const at = (s) => JSON.parse(JSON.stringify(s).replaceAll('"#/components/', '"http://contract/document#/components/'));
  const cache = new Map();
  return (schema) => {
    if (!cache.has(schema)) cache.set(schema, ajv.compile(at(strict(schema))));
    const test = cache.get(schema);
    return (value) => (test(value) ? null : test.errors.map((e) => (e.instancePath || '/') + ' ' + e.message + ' ' + JSON.stringify(e.params)).join('; '));
  };
}

module.exports = { home, read, parse, check, same, settle, validator };
