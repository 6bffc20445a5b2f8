'use strict';
// A program in Node, with the client (`client`) or knowing nothing of Horus. A file in the folder of triggers makes its loop wait for ever.
//
//   node unaware.js HOW TRIGGERS [CLIENT | OUT]
//     loop      a loop, and nothing else
//     children  its children and a worker thread go on turning when its loop has stopped
//     look      writes down what it sees of its surroundings, and ends in its own way
//     client    beats by the client, counts its turns, and takes `step` for a declared step of some seconds

const { fork, spawn, execSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { Worker } = require('node:worker_threads');

const [how, triggers, more] = process.argv.slice(2);
const TURN = 20;
const STEP = 5000;

function strikes(name) {
  try {
    fs.unlinkSync(path.join(triggers, name));
    return true;
  } catch {
    return false;
  }
}

function sleep(time) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, time);
}

function trade(turned = () => {}) {
  setInterval(() => {
    turned();
    if (strikes('block')) execSync('sleep 3600');
  }, TURN);
}

function look() {
  const seen = {
    options: process.env.NODE_OPTIONS,
    arguments: process.execArgv,
    cache: Object.keys(require.cache),
    globals: Object.getOwnPropertyNames(globalThis).sort(),
    child: String(execSync(`"${process.execPath}" -e "console.log(process.env.NODE_OPTIONS, Object.keys(require.cache))"`)),
  };
  fs.writeFileSync(`${more}.part`, JSON.stringify(seen));
  fs.renameSync(`${more}.part`, more);
  process.exitCode = 7;
}

function client() {
  const beat = require(path.join(more, 'index.js')).heartbeat();
  const turns = beat.counter('turns');
  trade(() => {
    turns.increment();
    if (strikes('step')) beat.busy(600_000, 'a long step', () => sleep(STEP));
  });
}

if (how === 'children') {
  fork(__filename, ['loop', '/nowhere']);
  spawn(process.execPath, [__filename, 'loop', '/nowhere']);
  new Worker('setInterval(() => {}, 20)', { eval: true });
  trade();
} else if (how === 'look') {
  look();
} else if (how === 'client') {
  client();
} else {
  trade();
}
