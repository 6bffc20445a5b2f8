"""How a Python program tells its supervisor that its loop turns, and not merely that a process exists.

    async with heartbeat() as beat:    # asyncio: beats come from the loop itself, with its lag
        ...

    with heartbeat() as beat:          # threads: your own loop calls beat.tick()
        ...

See the README for what each sign proves.
"""

from ._beat import (
    MAX_BUSY,
    MAX_NAMES,
    MAX_WORKERS,
    Counter,
    Gauge,
    Heartbeat,
    Worker,
    heartbeat,
)

__all__ = [
    "MAX_BUSY",
    "MAX_NAMES",
    "MAX_WORKERS",
    "Counter",
    "Gauge",
    "Heartbeat",
    "Worker",
    "heartbeat",
]
