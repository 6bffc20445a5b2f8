"""A trading bot on asyncio, as people write them; CPython's standard library only.

Its loop ticks, a stage finds signals and a stage places orders. A file that appears in the folder of triggers makes it
go wrong the way real ones did:

  block   the loop waits in a synchronous recv() for an exchange that never answers
  give-up it says so itself (with --notify) before the loop waits like that
  stall   the loop lives and finds signals; the stage that places orders waits for ever
  exit    it ends with code 3
  fill    it is given something to trade after all: the gauge `slots` rises to 3

With --slots COUNT it says how many slots it has to trade with, as a gauge.
Under /metrics the page shows its counters as Prometheus reads them.
With --thread a helper thread serves the health page: it says 200 whatever became of the loop.
With --witness DATABASE REPORT it writes what Horus has on disk in the moment in which SIGTERM arrives.
"""

import argparse
import asyncio
import http.server
import json
import os
import pathlib
import signal
import socket
import sqlite3
import sys
import threading

TURN = 0.02


class Bot:
    def __init__(self, options):
        self.options = options
        self.seq = 0
        self.progress = {"signals": 0, "orders": 0}
        self.gauges = {} if options.slots is None else {"slots": options.slots}
        self.found = asyncio.Queue()

    def beat(self):
        said = {"seq": self.seq, "state": "ok", "progress": self.progress, "gauges": self.gauges}
        return json.dumps(said).encode()

    def strikes(self, name):
        folder = self.options.triggers
        if folder is None:
            return False
        try:
            (folder / name).unlink()
            return True
        except FileNotFoundError:
            return (folder / (name + "-always")).exists()

    def metrics(self):
        """A page for Prometheus: the same counters, orders by side."""
        orders = self.progress["orders"]
        return (
            "# HELP bot_orders_total Orders filled.\n# TYPE bot_orders_total counter\n"
            f'bot_orders_total{{side="buy"}} {orders - orders // 3}\nbot_orders_total{{side="sell"}} {orders // 3}\n'
            f"# TYPE bot_signals_total counter\nbot_signals_total {self.progress['signals']}\n"
            "# TYPE bot_seconds gauge\nbot_seconds 3.5\n"
        ).encode()

    def page(self, path):
        return self.metrics() if path.startswith("/metrics") else self.beat()

    def notify(self, text):
        """What sd_notify does."""
        if self.options.notify:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])

    async def turn_the_loop(self):
        self.notify("READY=1\n")
        while True:
            self.seq += 1
            self.notify(f"WATCHDOG=1\nX_HORUS_SEQ={self.seq}\n")
            await asyncio.sleep(TURN)
            if self.strikes("block"):
                print("asking the exchange for balances", flush=True)
                ask_the_exchange()
            if self.strikes("give-up"):
                self.notify("WATCHDOG=trigger\nSTATUS=lost the exchange\n")
                ask_the_exchange()
            if self.strikes("fill"):
                self.gauges["slots"] = 3
            if self.strikes("exit"):
                print("Traceback: RuntimeError: told to exit", flush=True)
                os._exit(3)

    async def find_signals(self):
        while True:
            await asyncio.sleep(TURN * 3)
            self.progress["signals"] += 1
            self.found.put_nowait(self.seq)

    async def place_orders(self):
        while True:
            await self.found.get()
            if self.options.no_orders or self.strikes("stall"):
                print("order stage: waiting for a fill", flush=True)
                await asyncio.Event().wait()
            self.progress["orders"] += 1

    async def serve(self, reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                body = self.page(head.split()[1].decode())
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def run(self):
        port = self.options.port
        if self.options.thread:
            serve_from_thread(self, port)
        else:
            await asyncio.start_server(self.serve, "127.0.0.1", port)
        print(f"bot runs as {os.getpid()}", flush=True)
        await asyncio.gather(self.turn_the_loop(), self.find_signals(), self.place_orders())


def ask_the_exchange():
    """What the real bot did: a synchronous call in the middle of the loop, without a timeout."""
    exchange = socket.create_server(("127.0.0.1", 0))
    connection = socket.create_connection(exchange.getsockname())
    connection.sendall(b"GET /balances HTTP/1.1\r\n\r\n")
    connection.recv(4096)


def serve_from_thread(bot, port):
    class Page(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body = bot.page(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        allow_reuse_address = True
        daemon_threads = True

    server = Server(("127.0.0.1", port), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def witness(database, report):
    """Writes down what is in Horus's database when the first signal arrives, then ends."""

    def on_signal(_number, _frame):
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5) as rows:
            events = [json.loads(what) for (what,) in rows.execute("SELECT what FROM event ORDER BY seq")]
            outbox = [json.loads(notice) for (notice,) in rows.execute("SELECT notice FROM outbox")]
        half = report.with_suffix(".half")
        half.write_text(json.dumps({"events": events, "outbox": outbox}))
        half.rename(report)
        os._exit(0)

    signal.signal(signal.SIGTERM, on_signal)


def main():
    words = argparse.ArgumentParser()
    words.add_argument("--port", type=int, required=True)
    words.add_argument("--triggers", type=pathlib.Path)
    words.add_argument("--thread", action="store_true")
    words.add_argument("--no-orders", action="store_true")
    words.add_argument("--slots", type=int)
    words.add_argument("--notify", action="store_true", help="push the beat, as programs written for systemd do")
    words.add_argument("--witness", nargs=2, type=pathlib.Path, metavar=("DATABASE", "REPORT"))
    options = words.parse_args()
    if options.witness:
        witness(*options.witness)

    async def run():
        await Bot(options).run()

    asyncio.run(run())


if __name__ == "__main__":
    sys.exit(main())
