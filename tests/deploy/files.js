// What the deployment tests share: the list of services, YAML files, and checks that all speak before one failure ends the run.
const fs = require('fs');
const path = require('path');
const yaml = require('yaml');

const home = path.resolve(__dirname, '../..');
// The one place that says which services there are: every folder under services/ is one.
const services = fs.readdirSync(path.join(home, 'services')).sort();
const role = (service) => 'aethelos_' + service.replace(/-/g, '_');

let failures = 0;
function check(what, good, detail = '') {
  if (good) return;
  failures++;
  console.log('NOT ok: ' + what + (detail ? ': ' + detail : ''));
}
function same(what, got, want) {
  const [a, b] = [[...got].sort().join(' '), [...want].sort().join(' ')];
  check(what, a === b, a + ' is not ' + b);
}
// Ends the run when a check failed.
function settle(what) {
  if (failures > 0) process.exit(1);
  console.log('ok: ' + what);
}

const documents = (file) => yaml.parseAllDocuments(fs.readFileSync(file, 'utf8'), { merge: true }).map((d) => d.toJS());

module.exports = { home, services, role, check, same, settle, documents };
