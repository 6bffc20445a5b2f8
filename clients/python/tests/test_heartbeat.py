"""Against a real socket: what is sent, by whom, and what silences it. Run with `python -m unittest` from `tests/`."""

import asyncio
import gc
import os
import pathlib
import socket
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "src"))

import horus_heartbeat
from horus_heartbeat import Heartbeat
from horus_heartbeat._notify import MAX_DATAGRAM_BYTES, Notifier

FAILSAFE = 30.0


class Supervisor:
    """The other end of the socket."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address[0] == "@" else address)
        self.socket.settimeout(FAILSAFE)

    def hear(self):
        """The next datagram, as pairs."""
        text = self.socket.recv(65536)
        assert len(text) <= MAX_DATAGRAM_BYTES, len(text)
        return [line.split("=", 1) for line in text.decode().splitlines()]

    def until(self, key, value=None):
        """The next datagram that says so."""
        while True:
            said = dict(self.hear())
            if key in said and value in (None, said[key]):
                return said

    def waiting(self):
        """What is there now."""
        self.socket.setblocking(False)
        said = []
        try:
            while True:
                said.append(dict(self.hear()))
        except BlockingIOError:
            self.socket.settimeout(FAILSAFE)
            return said


class OnASocket(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.address = os.path.join(self.folder.name, "notify")
        self.supervisor = Supervisor(self.address)

    def tearDown(self):
        self.supervisor.socket.close()
        self.folder.cleanup()

    def beat(self, every=0.1, **options):
        return Heartbeat(notifier=Notifier(self.address, every), **options)

    def test_a_loop_beats_with_its_lag_and_its_progress(self):
        async def main():
            async with self.beat() as beat:
                orders = beat.counter("orders")
                self.assertEqual(self.supervisor.hear(), [["READY", "1"]])
                first = int(self.supervisor.until("X_HORUS_SEQ")["X_HORUS_SEQ"])
                orders.increment(3)
                beat.gauge("slots").set(-2.5)
                while True:
                    await asyncio.sleep(0.01)
                    for said in self.supervisor.waiting():
                        if int(said.get("X_HORUS_SEQ", 0)) > first:
                            return said

        said = asyncio.run(asyncio.wait_for(main(), FAILSAFE))
        self.assertEqual(said["WATCHDOG"], "1")
        self.assertEqual(said["X_HORUS_STATE"], "ok")
        self.assertEqual(said["X_HORUS_PROGRESS"], "orders:3")
        self.assertEqual(said["X_HORUS_GAUGE"], "slots:-2.5")
        self.assertGreaterEqual(float(said["X_HORUS_LAG_MS"]), 0.0)
        self.supervisor.until("STOPPING", "1")

    def test_a_blocked_loop_is_silent_and_then_tells_how_late_it_was(self):
        async def main():
            async with self.beat():
                self.supervisor.until("X_HORUS_SEQ")
                time.sleep(0.5)
                self.assertEqual(self.supervisor.waiting(), [])
                await asyncio.sleep(0)
                while True:
                    for said in self.supervisor.waiting():
                        if "X_HORUS_LAG_MS" in said:
                            return float(said["X_HORUS_LAG_MS"])
                    await asyncio.sleep(0.01)

        self.assertGreater(asyncio.run(asyncio.wait_for(main(), FAILSAFE)), 300.0)

    def test_with_own_ticks_a_loop_without_turns_vouches_for_nothing(self):
        async def main():
            async with self.beat(own_ticks=True) as beat:
                await asyncio.sleep(0.35)
                said = self.supervisor.waiting()
                self.assertTrue(any("X_HORUS_SEQ" in one for one in said), said)
                self.assertFalse(any("WATCHDOG" in one for one in said), said)
                beat.tick()
                while not any(one.get("WATCHDOG") == "1" for one in self.supervisor.waiting()):
                    await asyncio.sleep(0.01)

        asyncio.run(asyncio.wait_for(main(), FAILSAFE))

    def test_threads_tick_by_their_own_loop_and_not_more_often_than_asked(self):
        with self.beat(every=10.0) as beat:
            for _ in range(1000):
                beat.tick()
        said = [one for one in self.supervisor.waiting() if "X_HORUS_SEQ" in one]
        self.assertEqual([one["X_HORUS_SEQ"] for one in said], ["1"])

    def test_a_worker_that_is_late_stops_the_tick_and_is_named(self):
        beat = self.beat()
        worker = beat.worker("order writer", longest=600)
        beat.tick()
        self.assertEqual(self.supervisor.until("X_HORUS_SEQ")["X_HORUS_SEQ"], "1")
        worker._last -= 1000
        beat.tick()
        self.assertIn("order_writer", self.supervisor.until("STATUS")["STATUS"])
        writer = threading.Thread(target=worker.tick)
        writer.start()
        writer.join()
        beat.tick()
        self.supervisor.until("STATUS", "all workers turn again")
        worker.end()
        time.sleep(0.11)
        beat.tick()
        self.assertEqual(self.supervisor.until("X_HORUS_SEQ", "3")["WATCHDOG"], "1")

    def test_busy_has_an_end_and_is_told_at_once(self):
        beat = self.beat()
        with beat.busy(1e9, "back\ntest"):
            self.assertEqual(self.supervisor.hear(), [["STATUS", "back test"]])
            said = dict(self.supervisor.hear())
            self.assertEqual((said["X_HORUS_STATE"], said["WATCHDOG"]), ("busy", "1"))
            left = int(said["X_HORUS_BUSY_UNTIL_MS"]) / 1000 - time.time()
            self.assertTrue(0 < left <= horus_heartbeat.MAX_BUSY, left)
            self.assertNotIn("EXTEND_TIMEOUT_USEC", said, "the end of the block could not take it back")
        self.assertEqual(dict(self.supervisor.hear())["X_HORUS_STATE"], "ok")
        with beat.busy(0.01):
            self.supervisor.hear()
            time.sleep(0.02)
            with beat.idle():
                self.assertEqual(dict(self.supervisor.hear())["X_HORUS_STATE"], "idle", "its time is over")

    def test_steps_are_said_when_they_begin_and_end(self):
        beat = self.beat()
        with beat.step("lo\nad"):
            self.assertEqual(self.supervisor.hear(), [["X_HORUS_STEP", "lo_ad"]])
            with beat.step("train"):
                self.assertEqual(self.supervisor.hear(), [["X_HORUS_STEP", "train"]])
            self.assertEqual(self.supervisor.hear(), [["X_HORUS_STEP", "lo_ad"]])
        self.assertEqual(self.supervisor.hear(), [["X_HORUS_STEP", ""]])

    def test_halted_is_for_ever(self):
        beat = self.beat()
        beat.halted("loss limit")
        self.assertEqual(dict(self.supervisor.hear())["X_HORUS_STATE"], "halted")
        self.assertEqual(self.supervisor.hear(), [["STATUS", "loss limit"]])
        with beat.busy(5):
            self.assertEqual(dict(self.supervisor.hear())["X_HORUS_STATE"], "halted")

    def test_reloading_ends_with_ready(self):
        with self.beat().reloading():
            said = dict(self.supervisor.hear())
            self.assertEqual(said["RELOADING"], "1")
            self.assertGreater(int(said["MONOTONIC_USEC"]), 0)
        self.assertEqual(self.supervisor.hear(), [["READY", "1"]])

    def test_names_and_texts_forge_nothing_and_many_of_them_fit(self):
        beat = self.beat()
        beat.counter("a:1\nWATCHDOG=trigger").increment()
        for number in range(200):
            beat.counter(f"{number}-".ljust(100, "x")).increment()
        beat.status("x\nMAINPID=1 " + "ü" * 400)
        self.assertEqual([key for key, _ in self.supervisor.hear()], ["STATUS"])
        beat.tick()
        heard, told = [], 0
        while told < horus_heartbeat.MAX_NAMES:
            datagram = self.supervisor.hear()
            heard.append(datagram)
            told += sum(key == "X_HORUS_PROGRESS" for key, _ in datagram)
        self.assertGreater(len(heard), 1)
        self.assertTrue(all(dict(one)["X_HORUS_SEQ"] == "1" for one in heard), "each is a beat")
        self.assertNotIn("trigger", [value for one in heard for key, value in one if key == "WATCHDOG"])
        with self.assertRaises(ValueError):
            beat.counter("a").increment(-1)

    def test_a_fork_does_not_speak_for_its_parent(self):
        beat = self.beat()
        child = os.fork()
        if child == 0:
            beat.tick()
            beat.status("I am the child")
            os._exit(0)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assertEqual(self.supervisor.waiting(), [])
        beat.status("parent")
        self.supervisor.until("STATUS", "parent")

    def test_a_full_or_missing_socket_is_counted_and_holds_nobody_up(self):
        beat = self.beat(every=0.1)
        began = time.monotonic()
        while beat.dropped == 0:
            beat.status("x" * 200)
            self.assertLess(time.monotonic() - began, FAILSAFE, "the queue does not fill")
        gone = Heartbeat(notifier=Notifier(self.address + "-gone"))
        gone.ready()
        self.assertEqual(gone.dropped, 1)

    def test_a_ready_that_was_lost_is_said_again(self):
        address = self.address + "-late"
        beat = Heartbeat(notifier=Notifier(address))
        beat.ready()
        self.assertEqual(beat.dropped, 1)
        supervisor = Supervisor(address)
        self.addCleanup(supervisor.socket.close)
        beat.tick()
        self.assertEqual(supervisor.hear(), [["READY", "1"]])
        self.assertEqual(dict(supervisor.hear())["X_HORUS_SEQ"], "1")
        with beat.idle():
            self.assertNotIn("READY", dict(supervisor.hear()), "once is enough")

    def test_an_error_in_a_declared_step_is_the_programs_own(self):
        beat = self.beat()
        with self.assertRaises(KeyError):
            with beat.busy(60), beat.idle():
                raise KeyError("x")
        self.assertEqual(self.supervisor.waiting()[-1]["X_HORUS_STATE"], "ok")

    def test_a_forgotten_beat_closes_its_socket(self):
        beat = self.beat()
        descriptor = beat._notifier._socket.fileno()
        del beat
        gc.collect()
        with self.assertRaises(OSError):
            os.fstat(descriptor)


class Surroundings(unittest.TestCase):
    @unittest.skipUnless(sys.platform == "linux", "abstract sockets are Linux's")
    def test_abstract_sockets_are_spoken_to(self):
        address = f"@horus-heartbeat-test-{os.getpid()}"
        supervisor = Supervisor(address)
        Heartbeat(notifier=Notifier(address)).ready()
        self.assertEqual(supervisor.hear(), [["READY", "1"]])
        supervisor.socket.close()

    def test_without_a_socket_all_of_it_does_nothing(self):
        async def main():
            async with Heartbeat(notifier=Notifier(None)) as beat:
                beat.counter("orders").increment()
                with beat.busy(1), beat.idle(), beat.reloading():
                    beat.tick()
                beat.halted("no")
                self.assertIsNone(beat._timer, "and costs the loop nothing")
                return beat.dropped

        self.assertEqual(asyncio.run(main()), 0)

    def test_the_period_is_half_of_the_limit_that_is_meant_for_us(self):
        def every(asked=None, **said):
            notifier = Notifier.from_environment(said, asked)
            return notifier.every

        self.assertEqual(every(WATCHDOG_USEC="4000000"), 2.0)
        self.assertEqual(every(WATCHDOG_USEC="4000000", WATCHDOG_PID=str(os.getpid())), 2.0)
        self.assertEqual(every(WATCHDOG_USEC="4000000", WATCHDOG_PID="1"), 1.0)
        self.assertEqual(every(WATCHDOG_USEC="nonsense"), 1.0)
        self.assertEqual(every(0.5, WATCHDOG_USEC="4000000"), 0.5)
        self.assertEqual(every(5, WATCHDOG_USEC="4000000"), 2.0)
        self.assertEqual((every(5), every(0)), (5.0, 0.1))
        self.assertEqual(every(WATCHDOG_USEC="1"), 0.1)
        self.assertEqual(every(WATCHDOG_USEC="9" * 30), 10.0)


if __name__ == "__main__":
    unittest.main()
