// The units: every service of the code is started, and systemd, where it is, finds nothing wrong with them and them well shut in.
// usage: node systemd.js BIN_DIR WORK_DIR
const { spawnSync } = require('child_process');
const fs = require('fs');
const path = require('path');
const { home, services, check, same, settle } = require('./files.js');

const [bin, work] = process.argv.slice(2);
const from = path.join(home, 'systemd');
const read = (name) => fs.readFileSync(path.join(from, name), 'utf8');
same('the target wants every service', read('aethelos.target').match(/^Wants=(.*)$/m)[1].split(' '), services.map((s) => 'aethelos@' + s + '.service'));

if (spawnSync('systemd-analyze', ['--version']).status === 0) {
  // As they would be installed, with the programs of this build.
  const programs = (text) => text.split('/usr/local/bin/').join(bin + '/');
  const units = services.map((s) => 'aethelos@' + s + '.service');
  for (const unit of units) fs.writeFileSync(path.join(work, unit), programs(read('aethelos@.service')));
  for (const name of ['aethelos-migrate.service', 'aethelos.target']) fs.writeFileSync(path.join(work, name), programs(read(name)));
  fs.cpSync(path.join(from, 'aethelos@board.service.d'), path.join(work, 'aethelos@board.service.d'), { recursive: true });
  const files = [...units, 'aethelos-migrate.service', 'aethelos.target'].map((u) => path.join(work, u));
  const verify = spawnSync('systemd-analyze', ['verify', '--man=no', ...files], { encoding: 'utf8', env: { ...process.env, SYSTEMD_UNIT_PATH: work + ':' } });
  const ours = verify.stderr.split('\n').filter((l) => l.includes('aethelos'));
  check('systemd-analyze verify', ours.length === 0, ours.join('\n'));
  for (const unit of ['aethelos@pricing.service', 'aethelos-migrate.service']) {
    const r = spawnSync('systemd-analyze', ['security', '--offline=true', '--threshold=20', path.join(work, unit)], { encoding: 'utf8' });
    check(unit + ' is shut in', r.status === 0, r.stdout.split('\n').slice(-3).join(' ') + r.stderr);
    console.log('   ' + r.stdout.trim().split('\n').pop().replace(/^\W+/, ''));
  }
}
settle('the units are whole');
