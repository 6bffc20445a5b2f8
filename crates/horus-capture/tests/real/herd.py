"""Forks children that stand in a blocked loop, and ends them when it is told to: one line in, one line out."""

import asyncio
import os
import signal
import sys
import time


async def work():
    future = asyncio.get_running_loop().create_future()

    async def wait():
        await future

    tasks = [asyncio.create_task(wait(), name=f"task {n}") for n in range(200)]
    await asyncio.sleep(0)
    child = 0
    print("ready", flush=True)
    for line in sys.stdin:
        if line == "fork\n":
            child = os.fork()
            if child == 0:
                while True:
                    time.sleep(0.005)
            print(child, flush=True)
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            print("ended", flush=True)
    os._exit(len(tasks) * 0)


asyncio.run(work())
