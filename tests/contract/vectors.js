// The golden vectors of proto/vectors, read as somebody else would: bytes by a decoder that knows aethelos.proto and nothing of ours, JSON by the schemas.
const crypto = require('crypto');
const fs = require('fs');
const path = require('path');
const { home, read, parse, check, same, settle, validator } = require('./contract.js');

const asyncapi = parse('proto/asyncapi.yaml');
const compile = validator(asyncapi);
const proto = read('proto/aethelos.proto').replace(/\/\/.*$/gm, '');
const enums = Object.fromEntries([...proto.matchAll(/enum (\w+) \{([^}]*)\}/g)].map(([, n, b]) => [n, [...b.matchAll(/(\w+) = (\d+)/g)].map((m) => m[1].toLowerCase())]));
const messages = {};
for (const [, name, body] of proto.matchAll(/message (\w+) \{((?:[^{}]|\{[^{}]*\})*)\}/g)) {
  for (const [, inner, its] of body.matchAll(/message (\w+) \{([^}]*)\}/g)) messages[inner] = its;
  messages[name] = body.replace(/message \w+ \{[^}]*\}/g, '');
}
for (const name of Object.keys(messages))
  messages[name] = Object.fromEntries([...messages[name].matchAll(/(required|optional|repeated) (\w+) (\w+) = (\d+)/g)].map(([, label, kind, field, n]) => [n, { label, kind, field }]));

// The JSON text of a message: numbers may be greater than JavaScript's.
function decode(name, bytes) {
  let at = 0;
  const found = {};
  const varint = () => {
    let n = 0n, shift = 0n, b;
    do {
      b = bytes[at++];
      n |= BigInt(b & 0x7f) << shift;
      shift += 7n;
    } while (b & 0x80);
    return n;
  };
  while (at < bytes.length) {
    const tag = Number(varint()), f = messages[name][tag >> 3];
    let value = varint();
    if ((tag & 7) === 2) value = bytes.subarray(at, (at += Number(value)));
    if (!f) continue;
    let text;
    if (f.kind === 'string') text = JSON.stringify(Buffer.from(value).toString());
    else if (f.kind === 'bytes' && f.field === 'chain_id') text = '"' + Buffer.from(value).toString('hex').replace(/(.{8})(....)(....)(....)/, '$1-$2-$3-$4-') + '"';
    else if (f.kind === 'bytes') text = Buffer.from(value).toString();
    else if (enums[f.kind]) text = '"' + enums[f.kind][Number(value)] + '"';
    else if (messages[f.kind]) text = decode(f.kind, value);
    else if (f.kind === 'bool') text = String(value === 1n);
    else text = String(f.kind === 'uint32' ? value : BigInt.asIntN(64, value));
    (found[tag >> 3] = found[tag >> 3] || []).push(text);
  }
  const members = Object.entries(messages[name]).filter(([n, f]) => found[n] || f.label === 'repeated');
  return '{' + members.map(([n, f]) => '"' + f.field + '":' + (f.label === 'repeated' ? '[' + (found[n] || []).join(',') + ']' : found[n].at(-1))).join(',') + '}';
}

const told = new Set();
for (const file of fs.readdirSync(path.join(home, 'proto/vectors')))
  for (const v of JSON.parse(read('proto/vectors/' + file))) {
    const line = read('proto/vectors/' + file).split('\n').find((l) => l.startsWith(`{"message": "${v.message}", "name": "${v.name}"`));
    const json = line.match(/"json": (.*?)(, "(means|submission)": .*)?\},?$/)[1], what = v.message + ', ' + v.name;
    told.add(v.message);
    if (v.key) check(what + ' has its key', v.key === 'ce_' + crypto.createHash('sha256').update(v.json.source + '\n' + v.json.id).digest('hex'));
    if (v.submission) check(what + ' is a submission', !compile({ $ref: '#/components/schemas/Submission' })(v.submission));
    if (v.protobuf !== undefined) check(what, decode(v.message, Buffer.from(v.protobuf, 'hex')) === json, decode(v.message, Buffer.from(v.protobuf, 'hex')) + ' is not ' + json);
    const wrong = compile({ $ref: '#/components/schemas/' + v.message })(v.json);
    check(what + (v.means === 'invalid' ? ' is against its schema' : ' is as its schema says'), /^(invalid|not known)/.test(v.means) ? wrong : !wrong, wrong);
  }
// A key is text.
same('the messages that have vectors', told, Object.keys(asyncapi.components.messages).filter((n) => n !== 'Key'));
settle('the vectors are what another decoder and the schemas make of them');
