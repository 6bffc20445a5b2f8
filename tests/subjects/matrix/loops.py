"""A program on asyncio (or uvloop) that goes wrong in one known way when it is ordered to.

    loops.py MODE --order FOLDER [--uvloop]

It turns its loop and counts its work. When the file `go` appears in the folder, it leaves `gone` there and goes into its mode.
It beats where there is a NOTIFY_SOCKET, by the client for Python; the liars do it by a thread of their own.
"""

import argparse
import asyncio
import ctypes
import fcntl
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from horus_heartbeat import heartbeat

TURN = 0.05
EVER = 1_000_000


# === its loop does not turn any more ===


def silent_exchange():
    """Somebody who takes a connection and never says a word."""
    exchange = socket.create_server(("127.0.0.1", 0))
    return exchange, exchange.getsockname()


def ask_the_exchange():
    exchange, address = silent_exchange()
    connection = socket.create_connection(address)
    taken, _ = exchange.accept()
    connection.sendall(b"balances?")
    taken.recv(4096)
    connection.recv(4096)


def take_and_never_answer(exchange):
    taken, _ = exchange.accept()
    taken.recv(4096)
    time.sleep(EVER)


def fetch_the_order_book():
    exchange, (host, port) = silent_exchange()
    threading.Thread(target=take_and_never_answer, args=[exchange], daemon=True).start()
    urllib.request.urlopen(f"http://{host}:{port}/book").read()


def lock_the_ledger():
    with tempfile.NamedTemporaryFile() as ledger, open(ledger.name, "rb") as again:
        fcntl.flock(ledger, fcntl.LOCK_EX)
        fcntl.flock(again, fcntl.LOCK_EX)


def write_to_a_reader_who_left():
    _reader, writer = os.pipe()
    while True:
        os.write(writer, b"tick" * 4096)


def run_the_report():
    subprocess.run(["sleep", str(EVER)], check=False)


def sleep_with_the_interpreter_locked():
    ctypes.PyDLL(None).sleep(EVER)


def take_two_locks_in_the_other_order():
    orders, positions = threading.Lock(), threading.Lock()
    taken = threading.Event()

    def settle():
        with positions:
            taken.set()
            with orders:
                pass

    with orders:
        threading.Thread(target=settle, name="settlement", daemon=True).start()
        taken.wait()
        with positions:
            pass


def compute_for_ever():
    number = 1
    while True:
        number = number * 48271 % 2147483647


def sweep_more_than_may_be_kept():
    """Each page that it comes to was written to the disk meanwhile."""
    table = bytearray(256 << 20)
    while True:
        for page in range(0, len(table), 4096):
            table[page] = 1 + table[page] % 255


def match_a_hopeless_pattern():
    re.match(r"(a+)+$", "a" * 64 + "b")


# === its loop turns, and its work does not go on ===


async def wait_for_a_fill_that_never_comes():
    await asyncio.get_running_loop().create_future()


async def lock_twice():
    lock = asyncio.Lock()
    async with lock:
        async with lock:
            pass


async def die():
    raise RuntimeError("the strategy is dead, and nobody looks at its task")


async def wait_for_a_worker_of_a_full_pool():
    loop = asyncio.get_running_loop()
    pool = ThreadPoolExecutor(2)
    for _ in range(2):
        pool.submit(ask_the_exchange)
    await loop.run_in_executor(pool, len, "")


# === it is well ===


async def fail_and_try_again():
    """A storm: it fails at once, and tries again at once."""
    while True:
        try:
            await refuse()
        except ConnectionError:
            await asyncio.sleep(0)


async def refuse():
    raise ConnectionError


async def compute_beside_the_loop():
    await asyncio.get_running_loop().run_in_executor(None, compute_for_ever)


async def block_for_three_of_five_seconds():
    while True:
        time.sleep(3)
        await asyncio.sleep(2)


async def compute_a_batch(beat):
    """45 seconds of processor time in one piece, declared before."""
    end = time.process_time() + 45
    with beat.busy(1800, "a batch"):
        while time.process_time() < end:
            pass


STUCK = {
    "recv": ask_the_exchange,
    "deaf": ask_the_exchange,
    "liar": ask_the_exchange,
    "liar-counts": ask_the_exchange,
    "http": fetch_the_order_book,
    "flock": lock_the_ledger,
    "pipe": write_to_a_reader_who_left,
    "wait": run_the_report,
    "gil": sleep_with_the_interpreter_locked,
    "lock": take_two_locks_in_the_other_order,
    "busy": compute_for_ever,
    "regex": match_a_hopeless_pattern,
    "thrash": sweep_more_than_may_be_kept,
}
WORK_DEAD = {
    "never": wait_for_a_fill_that_never_comes,
    "async-lock": lock_twice,
    "died": die,
    "pool": wait_for_a_worker_of_a_full_pool,
}
ALIVE = {
    "storm": fail_and_try_again,
    "worker": compute_beside_the_loop,
    "slow": block_for_three_of_five_seconds,
}


def ordered(folder):
    try:
        (folder / "go").unlink()
    except FileNotFoundError:
        return False
    (folder / "gone").touch()
    return True


async def trade(mode, folder, beat):
    """The work that is counted: it goes on in a task of its own."""
    work = beat.counter("work")
    while True:
        await asyncio.sleep(TURN)
        work.increment()
        if mode in WORK_DEAD and ordered(folder):
            await WORK_DEAD[mode]()


async def run(mode, folder, beat):
    if mode == "idle":
        await asyncio.Event().wait()
    _strategy = asyncio.create_task(trade(mode, folder, beat))
    while True:
        await asyncio.sleep(TURN)
        if mode in WORK_DEAD or not ordered(folder):
            continue
        if mode in STUCK:
            STUCK[mode]()
        elif mode == "batch":
            await compute_a_batch(beat)
        elif mode in ALIVE:
            await ALIVE[mode]()


def beat_from_a_thread(address, mode, turns):
    """What a program must not do: this beat goes on when the loop is dead."""
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    while True:
        if address:
            count = f"X_HORUS_PROGRESS=work:{turns()}\n" if mode == "liar-counts" else ""
            sender.sendto(f"READY=1\nWATCHDOG=1\n{count}".encode(), address)
        time.sleep(0.5)


def main():
    words = argparse.ArgumentParser()
    words.add_argument("mode")
    words.add_argument("--order", type=pathlib.Path, required=True)
    words.add_argument("--uvloop", action="store_true")
    options = words.parse_args()
    if options.mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    lies = options.mode.startswith("liar")
    address = os.environ.pop("NOTIFY_SOCKET", None) if lies else None

    async def beating():
        async with heartbeat() as beat:
            if lies:
                work = beat.counter("work")
                what = (address, options.mode, lambda: work.value)
                threading.Thread(target=beat_from_a_thread, args=what, daemon=True).start()
            await run(options.mode, options.order, beat)

    if options.uvloop:
        import uvloop

        uvloop.run(beating())
    else:
        asyncio.run(beating())


if __name__ == "__main__":
    main()
