"""A program with a loop of asyncio that ticks every 20 ms. A line on standard input makes it ill, in the way that its
argument says; nothing about it helps whoever looks from outside."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time

MODE = sys.argv[1]
loop_lock = threading.Lock()


def ill():
    print("ill", flush=True)
    if MODE in ("recv", "liar"):
        host, port = os.environ["HORUS_TEST_PEER"].rsplit(":", 1)
        connection = socket.create_connection((host, int(port)))
        connection.recv(1)
    elif MODE == "lock":
        loop_lock.acquire()
        loop_lock.acquire()
    elif MODE == "busy":
        while True:
            pass
    elif MODE == "sleep":
        time.sleep(3600)
    elif MODE == "child":
        subprocess.run(["/bin/sleep", "600"])
    elif MODE == "pipe":
        reader, writer = os.pipe()
        while True:
            os.write(writer, b"x" * 65536)


def lie():
    """A thread that beats on whatever the loop does."""
    while True:
        os.stat("/")
        time.sleep(0.01)


def batch():
    print("ready", flush=True)
    while True:
        time.sleep(0.7)


async def main():
    going = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, lambda: (sys.stdin.readline() or os._exit(0)) and going.set())
    if MODE == "liar":
        threading.Thread(target=lie, daemon=True).start()
    print("ready", flush=True)
    if MODE == "idle":
        await asyncio.Event().wait()
    while True:
        await asyncio.sleep(0.02)
        if MODE == "slow":
            time.sleep(0.7)
        if going.is_set():
            going.clear()
            ill()


if MODE == "batch":
    batch()
asyncio.run(main())
