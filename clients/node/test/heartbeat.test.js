'use strict';
const assert = require('node:assert');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { after, beforeEach, afterEach, test } = require('node:test');
const { Worker: Thread } = require('node:worker_threads');

const CLIENT = path.join(__dirname, '..', 'index.js');
const { heartbeat, MAX_NAMES } = require(CLIENT);

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'horus-node-'));
after(() => fs.rmSync(folder, { recursive: true }));

/** Who listens: every message is an object of its lines, the last of several equal keys wins. */
class Listener {
  heard = [];
  waiting = [];
  sockets = new Set();

  async open(name) {
    this.path = path.join(folder, name);
    this.server = net.createServer((socket) => {
      this.sockets.add(socket);
      let unread = '';
      socket.on('data', (data) => {
        unread += data;
        const messages = unread.split('\n\n');
        unread = messages.pop();
        messages.forEach((message) => this.hear(message));
      });
      socket.on('error', () => {});
    });
    await new Promise((done) => this.server.listen(this.path, done));
    return this;
  }

  hear(message) {
    assert.ok(message.length <= 4096, 'no message is longer than is read');
    this.heard.push(message);
    this.waiting.splice(0).forEach((done) => done());
  }

  /** The first message from number `from` on that holds all of this. */
  async until(from, ...texts) {
    for (;;) {
      const at = this.heard.findIndex((message, at) => at >= from && texts.every((text) => message.includes(text)));
      if (at >= 0) return at;
      await new Promise((done) => this.waiting.push(done));
    }
  }

  close() {
    this.sockets.forEach((socket) => socket.destroy());
    return new Promise((done) => this.server.close(done));
  }
}

let listener;
let number = 0;
let beats;

beforeEach(async () => {
  number += 1;
  listener = await new Listener().open(`s${number}`);
  process.env.HORUS_NOTIFY_STREAM = listener.path;
  beats = [];
});

afterEach(async () => {
  beats.forEach((beat) => beat.end());
  delete process.env.HORUS_HEARTBEAT_PID;
  await listener.close();
});

function begin(options) {
  const beat = heartbeat({ every: 100, ...options });
  beats.push(beat);
  return beat;
}

test('the loop beats by itself, with its lag', async () => {
  begin();
  await listener.until(0, 'READY=1');
  const first = await listener.until(0, 'WATCHDOG=1', 'X_HORUS_SEQ=1\n', 'X_HORUS_STATE=ok');
  await listener.until(first + 1, 'WATCHDOG=1', 'X_HORUS_SEQ=2\n', 'X_HORUS_LAG_MS=');
});

test('a loop that was blocked tells by how long', async () => {
  begin();
  const from = await listener.until(0, 'X_HORUS_LAG_MS=');
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 600);
  await listener.until(from + 1, 'X_HORUS_SEQ=');
  const lags = () => listener.heard.slice(from + 1).flatMap((message) => /LAG_MS=([0-9.]+)/.exec(message)?.[1] ?? []);
  while (!lags().some((lag) => Number(lag) >= 400)) await listener.until(listener.heard.length, 'LAG_MS');
});

test('what is declared before a step that blocks is out before it blocks', async () => {
  const beat = begin();
  await beat.connected();
  const from = listener.heard.length;
  const child = beat.busy(60_000, 'backtest', () => {
    // Nothing of this loop runs here; another process looks what has arrived.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
    return 7;
  });
  assert.strictEqual(child, 7);
  const busy = await listener.until(from, 'X_HORUS_STATE=busy', 'X_HORUS_BUSY_UNTIL_MS=');
  const until = Number(/UNTIL_MS=(\d+)/.exec(listener.heard[busy])[1]);
  assert.ok(until > Date.now() + 30_000 && until <= Date.now() + 60_000);
  await listener.until(busy + 1, 'X_HORUS_STATE=ok');
});

test('a step ends when its promise does, also with an error', async () => {
  const beat = begin();
  await assert.rejects(beat.busy(60_000, async () => Promise.reject(new Error('no'))), /no/);
  const step = beat.idle();
  const idle = await listener.until(0, 'X_HORUS_STATE=idle', 'WATCHDOG=1');
  step.end();
  step.end();
  await listener.until(idle + 1, 'X_HORUS_STATE=ok');
});

test('with ownTicks only tick() moves the tick', async () => {
  const beat = begin({ ownTicks: true });
  await listener.until(3, 'X_HORUS_SEQ=0');
  assert.ok(!listener.heard.some((message) => message.includes('WATCHDOG=1')));
  beat.tick();
  await listener.until(0, 'WATCHDOG=1', 'X_HORUS_SEQ=1');
});

test('a late worker holds up the tick and is named', async () => {
  const beat = begin();
  const worker = beat.worker('writer', 150);
  await listener.until(0, 'STATUS=the worker writer is late');
  worker.tick();
  await listener.until(0, 'STATUS=all workers turn again');
  worker.end();
});

test('numbers are packed into messages that are read whole', async () => {
  const beat = begin();
  for (let at = 0; at < MAX_NAMES + 5; at += 1) beat.counter(`a name that is rather long, as names go, for number ${at}`).increment(2);
  const slots = beat.gauge('slots');
  slots.set(3);
  slots.set(Number.NaN);
  assert.strictEqual(slots.value, 3);
  assert.throws(() => beat.counter('x').increment(-1), RangeError);
  await listener.until(0, 'X_HORUS_PROGRESS=a_name_that_is_rather_long__as_names_go__for_number_63:2');
});

test('no text forges a line', async () => {
  const beat = begin();
  beat.status('fine\nMAINPID=1\u2028READY=1');
  const at = await listener.until(0, 'STATUS=');
  assert.match(listener.heard[at], /^STATUS=fine MAINPID=1 READY=1$/m);
});

test('after a lost connection it is found again, and READY is said again', async () => {
  begin();
  const before = await listener.until(0, 'X_HORUS_SEQ=2');
  await listener.close();
  fs.rmSync(listener.path, { force: true });
  listener.heard.length = 0;
  const again = await new Listener().open(`s${number}`);
  const ready = await again.until(0, 'READY=1');
  await again.until(ready, 'WATCHDOG=1');
  assert.ok(before >= 0);
  beats.splice(0).forEach((beat) => beat.end());
  await again.close();
  listener = await new Listener().open(`t${number}`);
});

/** Runs a program to its end, beside this one. */
function run(program, environment) {
  const done = spawnSync(process.execPath, ['-e', program], { env: { ...process.env, ...environment }, encoding: 'utf8', timeout: 30_000 });
  assert.strictEqual(done.status, 0, done.stderr);
  return done.stdout.trim();
}

test('it keeps no program alive, and does nothing where nobody listens', () => {
  const client = JSON.stringify(CLIENT);
  assert.strictEqual(run(`const b = require(${client}).heartbeat(); console.log(b.isActive)`, { HORUS_NOTIFY_STREAM: '' }), 'false');
  const gone = { HORUS_NOTIFY_STREAM: path.join(folder, 'nobody'), HORUS_HEARTBEAT_PID: '' };
  const waits = `const b = require(${client}).heartbeat(); b.connected().then(() => console.log('goes on'))`;
  assert.strictEqual(run(waits, gone), 'goes on', 'nobody can listen there, and it waits no longer');
  assert.strictEqual(run(`const b = require(${client}).heartbeat(); b.connected(); console.log(b.isActive)`, gone), 'true');
});

test('a child does not speak for its parent', () => {
  begin();
  assert.strictEqual(run(`console.log(require(${JSON.stringify(CLIENT)}).heartbeat().isActive)`), 'false');
});

test('a worker thread does not speak for the loop', async () => {
  const program = `require('node:worker_threads').parentPort.postMessage(require(${JSON.stringify(CLIENT)}).heartbeat().isActive)`;
  const thread = new Thread(program, { eval: true });
  assert.strictEqual(await new Promise((done) => thread.once('message', done)), false);
  await thread.terminate();
});
