"""A liar: a helper thread beats, whatever becomes of the loop.

  block   the loop waits in a synchronous recv() for ever; the thread goes on beating

With --counter its loop counts its turns, and the helper thread says the count with each beat.
"""

import argparse
import asyncio
import os
import pathlib
import socket
import threading
import time


def main():
    words = argparse.ArgumentParser()
    words.add_argument("--triggers", type=pathlib.Path, required=True)
    words.add_argument("--counter", action="store_true")
    options = words.parse_args()
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.connect(os.environ["NOTIFY_SOCKET"])
    turns = 0

    def beat():
        sender.send(b"READY=1\n")
        while True:
            count = f"X_HORUS_PROGRESS=turns:{turns}\n" if options.counter else ""
            sender.send(f"WATCHDOG=1\n{count}".encode())
            time.sleep(0.1)

    async def turn():
        nonlocal turns
        while True:
            await asyncio.sleep(0.02)
            turns += 1
            if (options.triggers / "block").exists():
                (options.triggers / "block").unlink()
                ours, _theirs = socket.socketpair()
                ours.recv(1)

    threading.Thread(target=beat, daemon=True).start()
    asyncio.run(turn())


if __name__ == "__main__":
    main()
