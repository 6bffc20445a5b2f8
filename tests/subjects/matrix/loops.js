// A Node program that goes wrong in one known way when it is ordered to.
//
//     loops.js MODE FOLDER PORT
//
// It counts its turns and its work. When the file `go` appears in the folder, it leaves `gone` there and goes into its mode.
// With a port it serves its beat from its own loop.
"use strict";

const { execFileSync, execSync } = require("node:child_process");
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");

const [mode, folder, port] = process.argv.slice(2);
const TURN_MS = 50;
let [turns, work] = [0, 0];

function ordered() {
  try {
    fs.unlinkSync(path.join(folder, "go"));
  } catch {
    return false;
  }
  fs.writeFileSync(path.join(folder, "gone"), "");
  return true;
}

// Its loop does not turn any more.

function runTheReport() {
  execSync("sleep 1000000");
}

function readThePipeOfSomebodyWhoLeft() {
  const fifo = path.join(folder, "fifo");
  if (!fs.existsSync(fifo)) execFileSync("mkfifo", [fifo]);
  fs.readFileSync(fifo);
}

function waitForTheOtherThread() {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

function computeForEver() {
  let number = 1;
  for (;;) number = (number * 48271) % 2147483647;
}

function matchAHopelessPattern() {
  /^(a+)+$/.test("a".repeat(64) + "b");
}

function promiseForEver() {
  Promise.resolve().then(promiseForEver);
}

// It is well.

function blockForThreeOfFiveSeconds() {
  const end = Date.now() + 3000;
  while (Date.now() < end) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
  setTimeout(blockForThreeOfFiveSeconds, 2000);
}

const MODES = {
  exec: runTheReport,
  fifo: readThePipeOfSomebodyWhoLeft,
  atomics: waitForTheOtherThread,
  busy: computeForEver,
  regex: matchAHopelessPattern,
  microtasks: promiseForEver,
  slow: blockForThreeOfFiveSeconds,
};

async function trade() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, TURN_MS));
    work += 1;
    if (mode === "never" && ordered()) await new Promise(() => {});
  }
}

if (mode === "idle") {
  setInterval(() => (turns += 1), 1000);
} else {
  trade();
  setInterval(() => {
    turns += 1;
    if (MODES[mode] && ordered()) MODES[mode]();
  }, TURN_MS);
}
if (Number(port) > 0) {
  const answer = (_request, response) => {
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify({ schema: 1, seq: turns, progress: { work } }));
  };
  http.createServer(answer).listen(Number(port), "127.0.0.1");
}
