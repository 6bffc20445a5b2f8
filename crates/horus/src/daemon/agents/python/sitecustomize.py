"""Horus put this in front of your own `sitecustomize`, because the service table says `agent = "python"`.

It starts the agent, takes itself out of `sys.path` and of the environment, and gives way to the next `sitecustomize`.
Written so that every Python can read it; those before 3.9 only pass by.
"""

import os
import sys


def _leave(here):
    """As if it had never been there: for this program, and for every program that it starts."""
    sys.path[:] = [entry for entry in sys.path if entry != here]
    sys.path_importer_cache.pop(here, None)
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    others = [entry for entry in entries if entry != here]
    if any(others):
        os.environ["PYTHONPATH"] = os.pathsep.join(others)
    elif len(others) < len(entries):
        del os.environ["PYTHONPATH"]


def _start(here):
    address = os.environ.get("NOTIFY_SOCKET")
    if not address or sys.version_info < (3, 9):
        return
    try:
        import _horus_agent

        _horus_agent.start(address, here)
    except Exception:
        # A program has to start without its watchdog, too.
        pass


_HERE = os.path.dirname(os.path.abspath(__file__))
_start(_HERE)
_leave(_HERE)
del sys.modules["sitecustomize"]
# Where there is none, this fails as it does without us, and `site` knows what that means.
import sitecustomize  # noqa: E402
