'use strict';
/**
 * How a Node program tells its supervisor that its loop turns, and not merely that a process exists.
 *
 *     const beat = heartbeat();            // READY=1, then beats from the loop itself, with its lag
 *     const orders = beat.counter('orders');
 *
 * Node has no unix datagrams, so the words of sd_notify go over a stream whose path is in HORUS_NOTIFY_STREAM: `KEY=VALUE` lines,
 * ended by an empty line. The tick is moved by a timer of the loop. A worker thread that did it would beat on over a dead loop,
 * which is the very lie that a tick is there to find out.
 */

const net = require('node:net');
const { isMainThread } = require('node:worker_threads');
const { monitorEventLoopDelay } = require('node:perf_hooks');

/** The longest step that can be declared, in milliseconds. */
const MAX_BUSY = 2 * 60 * 60 * 1000;
/** Counters and gauges together; a handle beyond them works and is not reported. */
const MAX_NAMES = 64;
/** Workers; one beyond them is not asked. */
const MAX_WORKERS = 64;
const MAX_NAME_BYTES = 64;
const MAX_STATUS_CHARACTERS = 256;
// Horus reads so much of one message.
const MAX_MESSAGE_BYTES = 4096;
// More than this unsent means that nobody reads: the next message is dropped.
const MAX_UNSENT_BYTES = 16384;
const DEFAULT_EVERY = 1000;
const FASTEST = 100;
const SLOWEST = 10000;
// Between two beats the delay of the loop is measured so often.
const LAG_RESOLUTION = 20;
// Set for the programs that this one starts: they do not speak for it.
const OWNER = 'HORUS_HEARTBEAT_PID';

/** The stream: written to at once or not at all, connected again with the next message. */
class Notifier {
  constructor(path, every) {
    this.path = path;
    this.every = Math.min(Math.max(every, FASTEST), SLOWEST);
    this.dropped = 0;
    this.socket = null;
    this.onConnect = [];
    this.greeting = () => '';
  }

  static fromEnvironment(every) {
    const said = process.env;
    const half = Number(said.WATCHDOG_USEC) / 2000;
    const asked = every ?? DEFAULT_EVERY;
    // The protocol asks for a beat at half of the limit.
    return new Notifier(ours() ? said.HORUS_NOTIFY_STREAM : undefined, half > 0 ? Math.min(asked, half) : asked);
  }

  get isOpen() {
    return Boolean(this.path);
  }

  /** Was it given to the system, or kept for a connection that is under way? */
  send(text) {
    if (!this.isOpen) return false;
    try {
      if (this.socket === null) this.connect();
      if (this.socket.writableLength > MAX_UNSENT_BYTES) throw new Error('nobody reads');
      this.socket.write(`${text}\n`);
      return true;
    } catch {
      this.dropped += 1;
      return false;
    }
  }

  connect() {
    const socket = net.connect({ path: this.path });
    this.socket = socket;
    // A program ends when it has nothing to do, whoever watches it.
    socket.unref();
    // Nobody says anything to us.
    socket.resume();
    socket.on('error', () => {
      this.dropped += 1;
    });
    // Whoever waits waits no longer: somebody listens, or nobody can.
    const settle = () => {
      socket.unref();
      this.onConnect.splice(0).forEach((done) => done());
    };
    socket.on('close', () => {
      if (this.socket === socket) this.socket = null;
      settle();
    });
    socket.on('connect', settle);
    const greeting = this.greeting();
    if (greeting) socket.write(`${greeting}\n`);
  }

  close() {
    // What was written is still sent.
    if (this.socket !== null) this.socket.end();
    this.path = undefined;
  }
}

/** Whether this process and thread may speak: no worker thread, and no child of a program that speaks. */
function ours() {
  if (!isMainThread || !process.env.HORUS_NOTIFY_STREAM) return false;
  const owner = process.env[OWNER];
  if (owner === undefined || owner === '') {
    process.env[OWNER] = String(process.pid);
    return true;
  }
  return owner === String(process.pid);
}

/** Progress: it only grows. */
class Counter {
  value = 0;

  increment(by = 1) {
    if (!(by >= 0)) throw new RangeError('a counter only grows; a gauge may fall');
    this.value += Math.trunc(by);
  }
}

/** A number that may fall, such as open slots. */
class Gauge {
  value = 0;

  set(value) {
    if (Number.isFinite(value)) this.value = value;
  }
}

/** Something in the loop that has to turn, too. While one is late the tick of the whole program stands still. */
class Worker {
  #last = performance.now();
  #ended = false;

  constructor(name, longest) {
    this.name = name;
    this.longest = longest;
  }

  /** Call it at the end of each turn of the worker. */
  tick() {
    this.#last = performance.now();
  }

  /** It is not expected any more. */
  end() {
    this.#ended = true;
  }

  /** Milliseconds since its last turn. */
  lag() {
    return performance.now() - this.#last;
  }

  get isEnded() {
    return this.#ended;
  }

  get isLate() {
    return !this.#ended && this.lag() > this.longest;
  }
}

/** See the module. None of the methods waits or fails for want of a stream. */
class Heartbeat {
  #notifier;
  #ownTicks;
  #seq = 0;
  #toldSeq = 0;
  #next = 0;
  #counters = new Map();
  #gauges = new Map();
  #workers = [];
  #late = null;
  #busy = new Set();
  #idle = 0;
  #halted = false;
  #saidReady = false;
  #timer = null;
  #delay = null;
  #planned = Infinity;
  #overdue = 0;

  constructor({ ready = true, ownTicks = false, every, notifier } = {}) {
    this.#notifier = notifier ?? Notifier.fromEnvironment(every);
    this.#ownTicks = ownTicks;
    // Whoever listens now may be another one than the one that was told.
    this.#notifier.greeting = () => (this.#saidReady ? 'READY=1\n' : '');
    if (!this.#notifier.isOpen) return;
    this.#delay = monitorEventLoopDelay({ resolution: LAG_RESOLUTION });
    this.#delay.enable();
    if (ready) this.ready();
    this.#planned = performance.now() + this.#notifier.every;
    this.#timer = setInterval(() => this.#turn(), this.#notifier.every);
    this.#timer.unref();
  }

  /** The program's own work has turned once more (with `ownTicks`). Call it at the end of each turn, and nowhere else. */
  tick() {
    if (this.#lateWorker() === null) this.#seq += 1;
    if (performance.now() >= this.#next) this.#push();
  }

  /** The counter of that name. Other characters than `[A-Za-z0-9_.-]` become `_`. */
  counter(name) {
    return this.#named(this.#counters, name, Counter);
  }

  /** The gauge of that name. */
  gauge(name) {
    return this.#named(this.#gauges, name, Gauge);
  }

  /** Somebody who has to turn at least every `longest` milliseconds, from now on. */
  worker(name, longest) {
    const worker = new Worker(clean(name), longest);
    this.#workers = this.#workers.filter((known) => !known.isEnded);
    if (this.#workers.length < MAX_WORKERS) this.#workers.push(worker);
    return worker;
  }

  /** The start is done. Said again to whoever listens after a lost connection. */
  ready() {
    const greeted = this.#notifier.socket === null;
    this.#saidReady = true;
    // A new connection says it by itself.
    if (greeted) this.#push();
    else this.#notifier.send('READY=1\n');
  }

  /** One line for people. */
  status(text) {
    this.#notifier.send(`STATUS=${oneLine(text)}\n`);
  }

  /** An orderly stop has begun. */
  stopping() {
    this.#notifier.send('STOPPING=1\n');
  }

  /** It stopped itself on purpose and waits for a person. There is no way back in this process. */
  halted(why) {
    this.#halted = true;
    this.#push();
    this.status(why);
  }

  /**
   * A step that may rightly take `longest` milliseconds. Ends with `end()` or when its time is over, whichever is first: a hang
   * inside it is still found. With a function it ends when that has ended.
   */
  busy(longest, what, work) {
    if (typeof what === 'function') [what, work] = [undefined, what];
    const step = { until: performance.now() + Math.min(Math.max(longest, 0), MAX_BUSY) };
    if (what !== undefined) this.status(what);
    this.#busy.add(step);
    // At once: a step that blocks the loop leaves no time for the next beat.
    this.#push();
    const end = () => {
      if (this.#busy.delete(step)) this.#push();
    };
    return work === undefined ? handle(end) : during(work, end);
  }

  /** Nothing to do: counters may stand still. The loop has to turn on; a step that blocks it is `busy`. */
  idle(work) {
    this.#idle += 1;
    this.#push();
    let ended = false;
    const end = () => {
      if (ended) return;
      ended = true;
      this.#idle -= 1;
      this.#push();
    };
    return work === undefined ? handle(end) : during(work, end);
  }

  /** Resolves when somebody listens, or nobody can; at once where nobody is spoken to. Wait for it before a step that blocks the loop at the start. */
  connected() {
    const notifier = this.#notifier;
    if (!notifier.isOpen || notifier.socket === null || !notifier.socket.connecting) return Promise.resolve();
    // Whoever waits for it does not end before it is known.
    notifier.socket.ref();
    return new Promise((done) => notifier.onConnect.push(done));
  }

  /** No more beats, and an orderly stop. */
  end() {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#delay?.disable();
    this.stopping();
    this.#notifier.close();
  }

  /** Messages that could not be sent, and connections that were not to be had. */
  get dropped() {
    return this.#notifier.dropped;
  }

  /** Whether it beats. */
  get isActive() {
    return this.#timer !== null;
  }

  #turn() {
    const now = performance.now();
    // The histogram does not see a delay that begins right after it was read.
    this.#overdue = Math.max(this.#overdue, now - this.#planned);
    this.#planned = now + this.#notifier.every;
    if (!this.#ownTicks && this.#lateWorker() === null) this.#seq += 1;
    this.#push();
  }

  #lateWorker() {
    const late = this.#workers.find((worker) => worker.isLate)?.name ?? null;
    if (late !== this.#late) {
      this.#late = late;
      this.status(late === null ? 'all workers turn again' : `the worker ${late} is late`);
    }
    return late;
  }

  /** Sends what holds now. `WATCHDOG=1` is in it only if the tick moved, or if the program declared that it need not. */
  #push() {
    if (!this.#notifier.isOpen) return;
    const now = performance.now();
    this.#next = now + this.#notifier.every;
    const left = Math.max(0, ...[...this.#busy].map((step) => step.until - now));
    const state = this.#halted ? 'halted' : left > 0 ? 'busy' : this.#idle > 0 ? 'idle' : 'ok';
    const lines = [];
    if (this.#seq !== this.#toldSeq || state !== 'ok') lines.push('WATCHDOG=1');
    this.#toldSeq = this.#seq;
    lines.push(`X_HORUS_SEQ=${this.#seq}`, `X_HORUS_STATE=${state}`);
    if (state === 'busy') lines.push(`X_HORUS_BUSY_UNTIL_MS=${Math.trunc(Date.now() + left)}`);
    const lag = this.#lag();
    if (lag !== null) lines.push(`X_HORUS_LAG_MS=${lag.toFixed(1)}`);
    const numbers = [...this.#counters].map(([name, counter]) => `X_HORUS_PROGRESS=${name}:${counter.value}`);
    numbers.push(...[...this.#gauges].map(([name, gauge]) => `X_HORUS_GAUGE=${name}:${gauge.value}`));
    for (const text of packed(lines.map((line) => `${line}\n`).join(''), numbers)) this.#notifier.send(text);
  }

  /** The worst lag since it was last asked, in milliseconds. */
  #lag() {
    const delay = this.#delay;
    // Nothing was measured yet.
    if (!delay || delay.max === 0) return null;
    const lag = Math.max(delay.max / 1e6 - LAG_RESOLUTION, this.#overdue, 0);
    delay.reset();
    this.#overdue = 0;
    return lag;
  }

  #named(known, name, Handle) {
    name = clean(name);
    const found = known.get(name);
    if (found !== undefined) return found;
    const made = new Handle();
    if (this.#counters.size + this.#gauges.size < MAX_NAMES) known.set(name, made);
    return made;
  }
}

function handle(end) {
  return Symbol.dispose === undefined ? { end } : { end, [Symbol.dispose]: end };
}

function during(work, end) {
  let result;
  try {
    result = work();
  } catch (error) {
    end();
    throw error;
  }
  if (typeof result?.then !== 'function') {
    end();
    return result;
  }
  return Promise.resolve(result).finally(end);
}

/** Messages that are none of them too long, the first of them beginning with `head`. */
function* packed(head, lines) {
  let text = head;
  for (const line of lines) {
    if (text.length + line.length + 2 > MAX_MESSAGE_BYTES) {
      yield text;
      // Without the tick: it is said once.
      text = head.replace('WATCHDOG=1\n', '');
    }
    text += `${line}\n`;
  }
  yield text;
}

/** Control characters would forge further lines of a message; they become spaces. */
function oneLine(text) {
  return String(text).replace(/[\p{Cc}\p{Zl}\p{Zp}]/gu, ' ').slice(0, MAX_STATUS_CHARACTERS);
}

function clean(name) {
  return String(name).replace(/[^A-Za-z0-9_.-]/g, '_').slice(0, MAX_NAME_BYTES) || '_';
}

/**
 * A beat, from now on. `ready`: `READY=1` at once. `ownTicks`: only `tick()` moves the tick. `every`: milliseconds between two beats,
 * 100 to 10000; 1000 if not given, and at least twice in `WATCHDOG_USEC`.
 */
function heartbeat(options) {
  return new Heartbeat(options);
}

module.exports = { heartbeat, Heartbeat, Counter, Gauge, Worker, MAX_BUSY, MAX_NAMES, MAX_WORKERS };
