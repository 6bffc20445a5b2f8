"""A program that uses the Python client, on asyncio or (with `threads`) with a loop and a worker of its own.

A file in the folder of triggers makes it go wrong:

  block   its loop (or the worker, where there is one) waits for ever in a recv()
  step    its loop blocks for so many seconds as `--step` says, in a step that it has declared
"""

import argparse
import asyncio
import pathlib
import socket
import threading
import time

from horus_heartbeat import heartbeat

TURN = 0.02


def strikes(options, name):
    try:
        (options.triggers / name).unlink()
        return True
    except FileNotFoundError:
        return False


def wait_for_ever():
    ours, _theirs = socket.socketpair()
    ours.recv(1)


def go_wrong(options, beat):
    if strikes(options, "block"):
        wait_for_ever()
    if strikes(options, "step"):
        with beat.busy(600, "a long step"):
            time.sleep(options.step)


async def on_asyncio(options):
    async with heartbeat() as beat:
        turns = beat.counter("turns")
        while True:
            await asyncio.sleep(TURN)
            turns.increment()
            go_wrong(options, beat)


def on_threads(options):
    with heartbeat() as beat:
        worker = beat.worker("writer", longest=1)

        def work():
            while True:
                time.sleep(TURN)
                if strikes(options, "block"):
                    wait_for_ever()
                worker.tick()

        threading.Thread(target=work, daemon=True).start()
        turns = beat.counter("turns")
        while True:
            time.sleep(TURN)
            turns.increment()
            beat.tick()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("how", choices=["asyncio", "threads"])
    parser.add_argument("--triggers", type=pathlib.Path, required=True)
    parser.add_argument("--step", type=float, default=0)
    options = parser.parse_args()
    if options.how == "asyncio":
        asyncio.run(on_asyncio(options))
    else:
        on_threads(options)


if __name__ == "__main__":
    main()
