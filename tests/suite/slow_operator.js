// An operator outside that takes its time: it accepts every run (202) and says "running" until the file DONE_FILE is there. It registers itself and a
// flow of its own, prints its port, and counts in CALLS_FILE which run ids it was sent.
// usage: node slow_operator.js ADMIN_URL TOKEN_FILE DONE_FILE CALLS_FILE
const fs = require('fs');
const http = require('http');
const [admin, tokenFile, doneFile, callsFile] = process.argv.slice(2);

const server = http.createServer((request, response) => {
  const say = (status, body) => response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
  let body = '';
  request.on('data', (part) => (body += part));
  request.on('end', () => {
    if (request.method === 'POST') {
      fs.appendFileSync(callsFile, JSON.parse(body).run_id + '\n');
      say(202, {});
    } else if (fs.existsSync(doneFile)) say(200, { status: 'done', output: { words: 7 } });
    else say(200, { status: 'running' });
  });
});

async function post(path, body) {
  const answer = await fetch(admin + path, {
    method: 'POST',
    headers: { Authorization: 'Bearer ' + fs.readFileSync(tokenFile, 'utf8').trim(), 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (answer.status !== 201) throw new Error(path + ': ' + answer.status + ' ' + (await answer.text()));
}

server.listen(0, '127.0.0.1', async () => {
  const url = 'http://127.0.0.1:' + server.address().port;
  await post('/operators', {
    name: 'slow', kind: 'http', url: url + '/run', status_url: url + '/status', tags: ['slow_words'], fallback_for: [], idempotent: false, timeout_ms: 5000,
    max_in_flight: 4, description: 'takes its time',
  });
  await post('/flows', { type: 'test:slow', name: 'slow', base: '1.00', per_unit: '0.01', currency: 'EUR', steps: [{ tag: 'slow_words' }] });
  console.log('ready');
});
