"""A program without an event loop: a main thread and two writers, who take turns with two locks.

    threads.py MODE --order FOLDER

    lock     the writers wait for each other's lock for ever; the main thread turns on
    sleep    the main thread sleeps for an hour
    healthy  nothing
"""

import argparse
import pathlib
import threading
import time

from horus_heartbeat import heartbeat

TURN = 0.05


def ordered(folder):
    try:
        (folder / "go").unlink()
    except FileNotFoundError:
        return False
    (folder / "gone").touch()
    return True


def write(worker, first, second, met, wrong):
    while True:
        with first:
            if wrong.is_set():
                met.wait()
                take_the_other_lock(second)
            time.sleep(TURN)
        worker.tick()


def take_the_other_lock(lock):
    with lock:
        pass


def main():
    words = argparse.ArgumentParser()
    words.add_argument("mode")
    words.add_argument("--order", type=pathlib.Path, required=True)
    options = words.parse_args()
    orders, positions, wrong = threading.Lock(), threading.Lock(), threading.Event()
    met = threading.Barrier(2)
    with heartbeat() as beat:
        for name, first, second in (("orders", orders, positions), ("positions", positions, orders)):
            what = (beat.worker(name, longest=1), first, second, met, wrong)
            threading.Thread(target=write, args=what, name=name, daemon=True).start()
        while True:
            time.sleep(TURN)
            beat.tick()
            if options.mode != "healthy" and ordered(options.order):
                if options.mode == "sleep":
                    time.sleep(3600)
                wrong.set()


if __name__ == "__main__":
    main()
