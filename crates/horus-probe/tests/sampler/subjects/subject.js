// A program with the loop of Node that ticks every 20 ms. A line on standard input makes it ill, as its argument says.
const mode = process.argv[2];
process.stdin.once('data', () => {
  console.log('ill');
  if (mode === 'atomics') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  if (mode === 'exec') require('child_process').execSync('sleep 600');
  if (mode === 'busy') for (;;);
});
process.stdin.on('end', () => process.exit(0));
setInterval(() => {}, 20);
console.log('ready');
