"""Programs that know nothing of Horus. An agent is put into them from outside (`agent = "python"`).

A file in the folder of triggers makes the loop wait for ever in a recv() (`block`), or lets a second voice fall silent (`hush`).
"""

import argparse
import os
import pathlib
import socket
import subprocess
import sys
import time

TURN = 0.02

if "look" not in sys.argv:
    import asyncio
    import multiprocessing


def strikes(options, name):
    try:
        (options.triggers / name).unlink()
        return True
    except (FileNotFoundError, TypeError):
        return False


def ask_the_exchange():
    ours, _theirs = socket.socketpair()
    ours.recv(1)


async def trade(options, seconds=None):
    end = None if seconds is None else time.monotonic() + seconds
    while end is None or time.monotonic() < end:
        await asyncio.sleep(TURN)
        if strikes(options, "block"):
            ask_the_exchange()


def child(options):
    asyncio.run(trade(argparse.Namespace(triggers=None)))


def with_children(options):
    """Each child has a loop of its own, and goes on turning when that of the program has stopped."""
    for method in ("fork", "spawn"):
        multiprocessing.get_context(method).Process(target=child, args=(options,), daemon=True).start()
    program = "import asyncio; asyncio.run(asyncio.sleep(3600))"
    subprocess.Popen([sys.executable, "-c", program])
    asyncio.run(trade(options))


async def with_its_own_beat(options):
    """It says itself that it turns, until it is hushed; the loop turns on."""
    address, speaks, tick = os.environ["NOTIFY_SOCKET"], True, 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
        while True:
            await asyncio.sleep(0.2)
            speaks = speaks and not strikes(options, "hush")
            if speaks:
                tick += 1
                speaker.sendto(f"WATCHDOG=1\nX_HORUS_SEQ={1000 + tick}\n".encode(), address)


def in_parts(options):
    """A loop, ordinary work that takes longer than the deadline, a loop, and so on."""
    for _ in range(2):
        asyncio.run(trade(options, 1.5))
        time.sleep(options.pause)
    (options.triggers / "worked").touch()
    asyncio.run(trade(options))


def again(options):
    """Becomes itself anew, in the same process."""
    asyncio.run(trade(options, 1.5))
    words = [word for word in sys.argv if word != "again"]
    os.execv(sys.executable, [sys.executable, *words, "loop"])


def look(options):
    """No loop. Writes down what it sees of its surroundings, and ends in its own way."""
    grandchild = "import os, sys; print(os.environ.get('PYTHONPATH'), '_horus_agent' in sys.modules)"
    seen = {
        "version": sys.version_info[:2],
        "path": sys.path,
        "modules": sorted(name for name in sys.modules if name != "_horus_agent"),
        "site": getattr(sys.modules.get("sitecustomize"), "MARK", None),
        "variable": os.environ.get("PYTHONPATH"),
        "child": subprocess.run([sys.executable, "-c", grandchild], capture_output=True, text=True).stdout,
        "warnings": sys.warnoptions,
    }
    options.out.with_suffix(".part").write_text(repr(seen))
    options.out.with_suffix(".part").rename(options.out)
    sys.exit(7)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--triggers", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--pause", type=float, default=0)
    parser.add_argument("how", choices=["loop", "uvloop", "children", "own", "parts", "again", "look"])
    options = parser.parse_args()
    if options.how == "loop":
        asyncio.run(trade(options))
    elif options.how == "uvloop":
        import uvloop

        uvloop.install()
        asyncio.run(trade(options))
    elif options.how == "own":
        asyncio.run(with_its_own_beat(options))
    else:
        {"children": with_children, "parts": in_parts, "again": again, "look": look}[options.how](options)


if __name__ == "__main__":
    main()
