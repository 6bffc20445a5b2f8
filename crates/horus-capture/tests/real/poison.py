"""A bot that scribbles over its own interpreter, where a reader from outside will look. It goes on in a loop that needs none of it."""

import asyncio
import ctypes
import gc
import sys
import threading
import time

MODE = sys.argv[1]
MINOR = sys.version_info.minor
HUGE = (1 << 62) + 8
NOWHERE = 0x6FFF_0000_0000
FRAME = 80 if MINOR == 11 else 72
PREVIOUS = 48 if MINOR == 11 else 8


def word(address):
    return ctypes.c_uint64.from_address(address)


def all_tasks():
    known = asyncio.tasks._all_tasks if MINOR == 11 else asyncio.tasks._scheduled_tasks
    return known.data


def poison(victim):
    coroutine = victim.get_coro()
    frame = id(coroutine) + FRAME
    top = ctypes.c_uint32.from_address(frame + 64).value
    awaited = word(frame + 72 + (top - 1) * 8)
    if MODE == "mask":
        word(id(all_tasks()) + 32).value = (1 << 40) - 1
        word(id(all_tasks()) + 24).value = 1 << 39
    elif MODE == "table":
        word(id(all_tasks()) + 40).value = NOWHERE
    elif MODE == "itself":
        awaited.value = id(coroutine)
    elif MODE == "nowhere":
        awaited.value = NOWHERE
    elif MODE == "name":
        word(id(victim.get_name()) + 16).value = HUGE
    elif MODE == "lines":
        word(id(poison.__code__.co_linetable) + 16).value = HUGE
        word(id(victim_of_it.__code__.co_linetable) + 16).value = HUGE
    elif MODE == "function":
        word(id(go_on.__code__.co_qualname) + 16).value = HUGE
        word(id(go_on.__code__.co_filename) + 16).value = HUGE
    elif MODE == "modules":
        keys = word(id(sys.modules) + 32).value
        word(keys + 24).value = HUGE
    elif MODE == "log":
        keys = word(id(sys.modules) + 32).value
        ctypes.c_uint8.from_address(keys + 9).value = 63
    elif MODE == "threads":
        state = ctypes.pythonapi.PyThreadState_Get
        state.restype = ctypes.c_void_p
        here = state()
        word(here + 8).value = here


def go_on():
    print("ready", flush=True)
    while True:
        time.sleep(0.005)


async def victim_of_it(future):
    await future


async def link(future, left):
    if left:
        await link(future, left - 1)
    else:
        await future


async def main():
    future = asyncio.get_running_loop().create_future()
    deep = int(sys.argv[2]) if MODE == "chain" else 1
    victim = asyncio.create_task(link(future, deep) if MODE == "chain" else victim_of_it(future), name="the victim")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    poison(victim)
    if MODE == "frames":
        print("ready", flush=True)
        here = word(id(sys._getframe()) + 24).value
        word(here + PREVIOUS).value = here
        while True:
            time.sleep(0.005)
    go_on()


gc.disable()
sys.setrecursionlimit(1 << 28)
threading.stack_size(1 << 30 if MODE == "chain" else 0)
side = threading.Thread(target=lambda: asyncio.run(main()), name="side")
if MODE == "chain":
    side.start()
    side.join()
else:
    asyncio.run(main())
