'use strict';
// Horus put this in front of your program, because the service table says `agent = "node"`.
//
// It beats from the event loop of a program that knows nothing of it: a timer of the loop --> one message a second over a stream. A
// loop that is blocked runs no timer, so it is silent. It takes itself out of NODE_OPTIONS, so that neither the children of the
// program nor its worker threads have it. Written so that every Node can read it; those before 18 only pass by.

const connect = require('net').connect;
// As they are before the program replaces any of them.
const start = setTimeout;
const stop = clearTimeout;

// Milliseconds between two beats, at most; a short deadline makes it a quarter of that.
const SLOWEST = 1000;
const FASTEST = 100;
// More than this unsent means that nobody reads: the next message is dropped.
const MAX_UNSENT_BYTES = 16384;

// What starts the real program as a child. A beat of theirs would vouch for nothing.
const LAUNCHERS =
  /^(npm|npx|npm-cli|npx-cli|yarn|yarn-\d[\w.-]*|yarnpkg|pnpm|pnpx|corepack|nodemon|tsx|forever|pm2|pm2-runtime|cross-env|cross-env-shell|dotenv|env-cmd|concurrently|npm-run-all|run-s|run-p|ts-node-dev|tsnd|nest)$/;
const LAUNCHER_PACKAGES =
  /\/node_modules\/(npm|yarn|pnpm|corepack|nodemon|tsx|forever|pm2|cross-env|dotenv-cli|env-cmd|concurrently|npm-run-all|ts-node-dev|@nestjs\/cli)\//;
const OURS = /(?:^| )--require="(?:[^"\\]|\\.)*horus-agent\.cjs"(?= |$)/;

const address = process.env.HORUS_NOTIFY_STREAM;
let every = SLOWEST;
let socket = null;
let seq = 0;
let planned = 0;
let timer = null;

function isLauncher() {
  const path = String(process.argv[1] || '');
  const name = path.split('/').pop().replace(/\.[cm]?js$/, '');
  return LAUNCHERS.test(name) || LAUNCHER_PACKAGES.test(path);
}

/** As if it had never been there, for every program that this one starts. */
function leave() {
  const options = process.env.NODE_OPTIONS;
  const found = options ? options.match(OURS) : null;
  if (found !== null) {
    const ours = found[0];
    const others = options.replace(ours, '').trim();
    if (others) process.env.NODE_OPTIONS = others;
    else delete process.env.NODE_OPTIONS;
    keepOverExec(ours.trim());
  }
  delete require.cache[__filename];
}

/** The program may become another one in the same process, and that is watched as well. */
function keepOverExec(ours) {
  const execve = process.execve;
  if (typeof execve !== 'function') return;
  process.execve = function (file, args, env = process.env) {
    const options = env.NODE_OPTIONS ? `${ours} ${env.NODE_OPTIONS}` : ours;
    return execve.call(process, file, args, Object.assign({}, env, { NODE_OPTIONS: options }));
  };
}

function send(text) {
  if (socket === null) {
    const made = connect({ path: address });
    socket = made;
    // A program ends when it has nothing to do, whoever watches it.
    made.unref();
    // Nobody says anything to us.
    made.resume();
    made.on('error', () => {});
    made.on('close', () => {
      if (socket === made) socket = null;
    });
  }
  if (socket.writableLength <= MAX_UNSENT_BYTES) socket.write(text);
}

function turn() {
  try {
    const lag = Math.max(performance.now() - planned, 0);
    // The program beats by Horus's own client, which knows more than we do.
    if (process.env.HORUS_HEARTBEAT_PID !== String(process.pid)) {
      seq += 1;
      // The first one waits for the program to be loaded: that is no lag of a loop.
      const late = seq > 1 ? `X_HORUS_LAG_MS=${lag.toFixed(1)}\n` : '';
      send(`X_HORUS_AGENT=node\nWATCHDOG=1\nX_HORUS_SEQ=${seq}\nX_HORUS_STATE=ok\n${late}\n`);
    }
  } catch (_error) {
    // Whatever is wrong with us is no fault of the program.
  }
  wait(every);
}

function wait(time) {
  stop(timer);
  planned = performance.now() + time;
  timer = start(turn, time);
  timer.unref();
}

if (address && parseInt(process.versions.node, 10) >= 18 && require('worker_threads').isMainThread && !isLauncher()) {
  leave();
  const quarter = Number(process.env.WATCHDOG_USEC) / 4000;
  if (quarter > 0) every = Math.min(Math.max(quarter, FASTEST), SLOWEST);
  wait(1);
}
