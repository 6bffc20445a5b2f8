"""The beat: what the program says of itself, and when that is sent.

Two ways to move the tick. `async with`: a timer of the running loop moves it and measures by how much it woke late; a
loop that is blocked is silent. `with`: the program's own loop calls `tick()`. There is no helper thread in either: one
would beat on over a dead loop, which is the very lie that a tick is there to find out.
"""

import asyncio
import math
import os
import re
import threading
import time
import weakref
from contextlib import contextmanager
from types import TracebackType
from typing import Callable, Dict, Iterator, List, Optional, Type, TypeVar

from ._notify import Notifier, one_line, packed

MAX_BUSY = 2 * 60 * 60.0
"""The longest step that can be declared, in seconds."""
MAX_NAMES = 64
"""Counters and gauges together; a handle beyond them works and is not reported."""
MAX_WORKERS = 64
"""Workers; one beyond them is not asked."""
MAX_NAME_BYTES = 64
MAX_STATUS_BYTES = 256
# How often the lag of a loop is measured. The worst one since the last beat is told.
SAMPLE_EVERY = 0.25

Handle = TypeVar("Handle")

_alive: "weakref.WeakSet[Heartbeat]" = weakref.WeakSet()


class Counter:
    """Progress: it only grows. Safe to use from any thread."""

    def __init__(self, lock: "threading.RLock") -> None:
        self._lock = lock
        self._value = 0

    @property
    def value(self) -> int:
        return self._value

    def increment(self, by: int = 1) -> None:
        if by < 0:
            raise ValueError("a counter only grows; a gauge may fall")
        with self._lock:
            self._value += by


class Gauge:
    """A number that may fall, such as open slots."""

    def __init__(self) -> None:
        self._value = 0.0

    @property
    def value(self) -> float:
        return self._value

    def set(self, value: float) -> None:
        if math.isfinite(value):
            self._value = float(value)


class Worker:
    """A thread or task that has to turn, too. While one is late the tick of the whole program stands still."""

    def __init__(self, name: str, longest: float) -> None:
        self.name = name
        self.longest = longest
        self._last = time.monotonic()
        self._ended = False

    def tick(self) -> None:
        """Call it at the end of each turn of the worker."""
        self._last = time.monotonic()

    def end(self) -> None:
        """It is not expected any more."""
        self._ended = True

    def lag(self) -> float:
        """Seconds since its last turn."""
        return time.monotonic() - self._last

    def _is_late(self) -> bool:
        return not self._ended and self.lag() > self.longest


class Heartbeat:
    """See the module. All methods may be called from any thread, and none of them waits or fails for want of a socket."""

    def __init__(
        self,
        *,
        ready: bool = True,
        own_ticks: bool = False,
        every: Optional[float] = None,
        notifier: Optional[Notifier] = None,
    ) -> None:
        self._notifier = Notifier.from_environment(every=every) if notifier is None else notifier
        self._owes_ready = False
        self._lock = threading.RLock()
        self._ready_at_once = ready
        self._own_ticks = own_ticks
        self._seq = 0
        self._told_seq = 0
        self._next = 0.0
        self._lag: Optional[float] = None
        self._counters: Dict[str, Counter] = {}
        self._gauges: Dict[str, Gauge] = {}
        self._workers: List[Worker] = []
        self._late: Optional[str] = None
        self._busy: List[float] = []
        self._steps: List[str] = []
        self._idle = 0
        self._halted = False
        self._active = False
        self._timer: Optional[asyncio.TimerHandle] = None
        _alive.add(self)

    # What the program says.

    def tick(self) -> None:
        """The main loop has turned once more. Call it at the end of each turn, and nowhere else."""
        with self._lock:
            if self._late_worker() is None:
                self._seq += 1
            if self._timer is None and time.monotonic() >= self._next:
                self._push()

    def counter(self, name: str) -> Counter:
        """The counter of that name. Other characters than `[A-Za-z0-9_.-]` become `_`."""
        return self._named(self._counters, name, lambda: Counter(self._lock))

    def gauge(self, name: str) -> Gauge:
        """The gauge of that name."""
        return self._named(self._gauges, name, Gauge)

    def worker(self, name: str, longest: float) -> Worker:
        """Somebody who has to turn at least every `longest` seconds, from now on."""
        worker = Worker(_clean(name), longest)
        with self._lock:
            self._workers = [known for known in self._workers if not known._ended]
            if len(self._workers) < MAX_WORKERS:
                self._workers.append(worker)
        return worker

    def ready(self) -> None:
        """The start is done. Said again with the next beat if the socket did not take it: without that word it never is."""
        self._owes_ready = not self._notifier.send("READY=1\n")

    def status(self, text: str) -> None:
        """One line for people."""
        self._notifier.send(f"STATUS={one_line(text, MAX_STATUS_BYTES)}\n")

    def stopping(self) -> None:
        """An orderly stop has begun."""
        self._notifier.send("STOPPING=1\n")

    def halted(self, why: str) -> None:
        """It stopped itself on purpose and waits for a person. There is no way back in this process."""
        with self._lock:
            self._halted = True
            self._push()
        self.status(why)

    @contextmanager
    def busy(self, longest: float, what: Optional[str] = None) -> Iterator[None]:
        """A step that may rightly take `longest` seconds. It ends with the block or when its time is over, whichever is
        first: a hang inside a busy step is still found."""
        if what is not None:
            self.status(what)
        end = time.monotonic() + min(max(longest, 0.0), MAX_BUSY)
        with self._lock:
            self._busy.append(end)
            # At once: a step that blocks the loop leaves no time for the next beat. By the state and not by
            # EXTEND_TIMEOUT_USEC, which cannot be taken back: it would excuse a hang after the step, too.
            self._push()
        try:
            yield
        finally:
            with self._lock:
                self._busy.remove(end)
                self._push()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A step of a batch, whose time stands in the `step` table of its service. Inside of another one it takes its place."""
        with self._lock:
            self._steps.append(_clean(name))
            self._say_step()
        try:
            yield
        finally:
            with self._lock:
                self._steps.pop()
                self._say_step()

    def _say_step(self) -> None:
        self._notifier.send(f"X_HORUS_STEP={self._steps[-1] if self._steps else ''}\n")

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Nothing to do: counters may stand still. The loop has to tick on; a step that blocks it is `busy`."""
        with self._lock:
            self._idle += 1
            self._push()
        try:
            yield
        finally:
            with self._lock:
                self._idle -= 1
                self._push()

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """It reads its configuration anew, and is ready again at the end of the block."""
        self._notifier.send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}\n")
        try:
            yield
        finally:
            self.ready()

    @property
    def dropped(self) -> int:
        """Datagrams that could not be sent at once."""
        return self._notifier.dropped

    @property
    def is_active(self) -> bool:
        """Whether it is inside its `with`."""
        return self._active

    # When it is sent.

    def __enter__(self) -> "Heartbeat":
        self._begin()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._end()

    async def __aenter__(self) -> "Heartbeat":
        self._begin()
        if self._notifier.is_open:
            loop = asyncio.get_running_loop()
            self._sample(loop, loop.time(), 0.0)
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._end()

    def _begin(self) -> None:
        self._active = True
        if self._ready_at_once:
            self.ready()

    def _end(self) -> None:
        self._active = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.stopping()

    def _sample(self, loop: asyncio.AbstractEventLoop, planned: float, pushed: float) -> None:
        """One turn of the loop's own timer. What is later than planned is its lag."""
        now = loop.time()
        with self._lock:
            self._lag = max(now - planned, 0.0, self._lag or 0.0)
            if not self._own_ticks and self._late_worker() is None:
                self._seq += 1
            if now >= pushed + self._notifier.every:
                self._push()
                self._lag, pushed = None, now
        after = min(SAMPLE_EVERY, self._notifier.every)
        self._timer = loop.call_at(now + after, self._sample, loop, now + after, pushed)

    def _late_worker(self) -> Optional[str]:
        late = next((worker.name for worker in self._workers if worker._is_late()), None)
        if late != self._late:
            self._late = late
            self.status(f"the worker {late} is late" if late else "all workers turn again")
        return late

    def _push(self) -> None:
        """Sends what holds now. `WATCHDOG=1` is in it only if the tick moved, or if the program declared that it need not."""
        if not self._notifier.is_open:
            return
        if self._owes_ready:
            self.ready()
        now = time.monotonic()
        self._next = now + self._notifier.every
        left = max((end - now for end in self._busy), default=0.0)
        state = "halted" if self._halted else "busy" if left > 0 else "idle" if self._idle else "ok"
        head = "WATCHDOG=1\n" if self._seq != self._told_seq or state != "ok" else ""
        self._told_seq = self._seq
        head += f"X_HORUS_SEQ={self._seq}\nX_HORUS_STATE={state}\n"
        if state == "busy":
            head += f"X_HORUS_BUSY_UNTIL_MS={int((time.time() + left) * 1000)}\n"
        if self._lag is not None:
            head += f"X_HORUS_LAG_MS={self._lag * 1000:.1f}\n"
        lines = [f"X_HORUS_PROGRESS={name}:{counter.value}\n" for name, counter in self._counters.items()]
        lines += [f"X_HORUS_GAUGE={name}:{gauge.value}\n" for name, gauge in self._gauges.items()]
        for text in packed(head, lines):
            self._notifier.send(text)

    def _named(self, known: Dict[str, Handle], name: str, make: Callable[[], Handle]) -> Handle:
        name = _clean(name)
        with self._lock:
            if name in known:
                return known[name]
            handle = make()
            if len(self._counters) + len(self._gauges) < MAX_NAMES:
                known[name] = handle
            return handle


def heartbeat(*, ready: bool = True, own_ticks: bool = False, every: Optional[float] = None) -> Heartbeat:
    """A beat for `async with` or `with`. `ready`: `READY=1` at the beginning of the block. `own_ticks`: on asyncio, too,
    only `tick()` moves the tick. `every`: seconds between two beats, 0.1 to 10; 1 if not given, and at least twice in
    `WATCHDOG_USEC`."""
    return Heartbeat(ready=ready, own_ticks=own_ticks, every=every)


def _clean(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:MAX_NAME_BYTES] or "_"


def _silence_the_fork() -> None:
    # A child does not speak for its parent. The lock may be held by a thread that it does not have.
    for beat in list(_alive):
        beat._lock = threading.RLock()
        beat._notifier.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_silence_the_fork)
