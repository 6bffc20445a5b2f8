"""A bot that can hang in many ways. Its last line on stdout before it does is "ready"."""

import asyncio
import http.client
import re
import socket
import sys
import threading
import time

MODE = sys.argv[1]

SERVER = socket.socket()
SERVER.bind(("127.0.0.1", 0))
SERVER.listen(8)


def ready():
    print("ready", flush=True)


def place_order():
    client = socket.create_connection(SERVER.getsockname())
    ready()
    client.recv(1)  # HERE recv


def ask_price():
    connection = http.client.HTTPConnection("127.0.0.1", SERVER.getsockname()[1])
    ready()
    connection.request("GET", "/")
    connection.getresponse()  # HERE http


def take_lock():
    lock = threading.Lock()
    lock.acquire()
    ready()
    lock.acquire()  # HERE lock


def spin():
    ready()
    while True:
        pass  # HERE busy


def match():
    ready()
    re.match(r"(a+)+$", "a" * 40 + "b")  # HERE regex


def dive(depth):
    if depth == 0:
        ready()
        time.sleep(1000)  # HERE deep
    else:
        dive(depth - 1)


def sleep_in_thread():
    ready()
    time.sleep(1000)


async def ticker():
    while True:
        await asyncio.sleep(0.02)
        if MODE == "healthy":
            print("tick", flush=True)


async def execute_signal(work):
    await asyncio.sleep(0.01)
    work()


async def take_both(first, second):
    async with first:
        await asyncio.sleep(0.02)
        async with second:  # HERE deadlock
            pass


async def main():
    ticking = asyncio.create_task(ticker(), name="ticker")
    blocking = {"recv": place_order, "side": place_order, "http": ask_price, "lock": take_lock, "busy": spin, "regex": match}
    if MODE in blocking:
        await asyncio.create_task(execute_signal(blocking[MODE]), name="execute-signal")  # HERE awaits
    elif MODE == "deadlock":
        one, two = asyncio.Lock(), asyncio.Lock()
        both = [
            asyncio.create_task(take_both(one, two), name="left"),
            asyncio.create_task(take_both(two, one), name="right"),
        ]
        while not (one.locked() and two.locked()):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        ready()
        await asyncio.gather(*both)
    elif MODE == "thread":
        await asyncio.create_task(asyncio.to_thread(sleep_in_thread), name="to-thread")  # HERE thread
    elif MODE == "many":
        many = [asyncio.create_task(asyncio.sleep(1000)) for _ in range(int(sys.argv[2]))]
        await asyncio.sleep(0)
        ready()
        await asyncio.gather(*many)
    else:
        ready()
        await asyncio.sleep(1000)
    await ticking


if MODE == "deep":
    sys.setrecursionlimit(1_000_000)
    threading.stack_size(512 << 20)
    diver = threading.Thread(target=dive, args=(int(sys.argv[2]),), name="diver")
    diver.start()
    diver.join()
elif MODE == "side":
    side = threading.Thread(target=lambda: asyncio.run(main()), name="side")
    side.start()
    side.join()
elif MODE == "plain":
    place_order()
else:
    asyncio.run(main())
