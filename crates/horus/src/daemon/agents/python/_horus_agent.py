"""Beats from the event loop of a program that knows nothing of it. Standard library only, and none of it imported early.

    import hook --> asyncio, uvloop: `run_forever` is wrapped --> a timer of the loop --> one datagram a second

A loop that is blocked runs no timer, so it is silent; there is no thread that would beat on over it. One loop vouches for the
process: that of the main thread, and where that runs none, the first of another thread. While no loop runs, nothing vouches for
anything: that is said as a step with an end, so that ordinary code between two loops is taken for what it is.
"""

import _thread
import os
import sys
import time

# Seconds between two beats, at most; a short deadline makes it a quarter of that.
SLOWEST, FASTEST = 1.0, 0.1
# Nobody vouches for the time after a loop. Horus grants no declared step more.
BETWEEN_LOOPS = 2 * 60 * 60
# Loops that come and go faster than this are taken together, but for so many at once.
GAP = 0.02
WORDS = 20.0

# Where `run_forever` is.
WANTED = {"asyncio.base_events": "BaseEventLoop", "uvloop": "Loop"}

_agent = None


class Agent:
    """One for the process that it was started in; a fork of that is silent."""

    def __init__(self, address, here):
        self.address = "\0" + address[1:] if address[0] == "@" else address
        self.here = here
        self.pid = os.getpid()
        self.main_thread = _thread.get_ident()
        self.lock = _thread.allocate_lock()
        self.every = self._every()
        self.turns = []
        self.beating = None
        self.seq = 0
        self.credit = WORDS
        self.credited = 0.0
        self.between = False

    @staticmethod
    def _every():
        try:
            return min(max(int(os.environ["WATCHDOG_USEC"]) / 4_000_000, FASTEST), SLOWEST)
        except (KeyError, ValueError):
            return SLOWEST

    def is_ours(self):
        return os.getpid() == self.pid

    def begin(self, loop):
        """A loop is about to run in this thread."""
        if not self.is_ours() or loop.is_running() or loop.is_closed():
            return None
        turn = Turn(self, loop)
        with self.lock:
            if any(other.thread == turn.thread for other in self.turns):
                # A loop inside of a loop: the timer of the outer one goes on in it.
                return None
            self.turns.append(turn)
            if self.beating is None or (turn.is_main and not self.beating.is_main):
                self.beating = turn
        if self.beating is turn:
            # The word that this loop runs comes before whatever it may hang in; only loops without end, one after the other, share one.
            in_a_row = not self.may_speak()
            try:
                turn.planned = loop.time() + (GAP if in_a_row else 0)
                turn.timer = loop.call_at(turn.planned, turn.fire, context=turn.context)
                if not in_a_row:
                    self.tell(None)
            except BaseException:
                # Whoever is not told of its end is a loop that never ends.
                self.end(turn)
                raise
        return turn

    def may_speak(self):
        """A bucket: `asyncio.run` is three loops in a row, and thousands of them come from a program that does little else."""
        now = time.monotonic()
        self.credit = min(self.credit + (now - self.credited) / GAP, WORDS)
        self.credited = now
        if self.credit < 1:
            return False
        self.credit -= 1
        return True

    def end(self, turn):
        """It has ended. Another loop that runs goes on for it."""
        with self.lock:
            self.turns.remove(turn)
            if self.beating is not turn:
                return
            self.beating = self.turns[0] if self.turns else None
            heir = self.beating
        if turn.timer is not None:
            turn.timer.cancel()
        if heir is not None:
            heir.loop.call_soon_threadsafe(heir.fire, context=heir.context)
        elif self.is_ours() and not self.between:
            self.tell(None, between=True)

    def tell(self, lag, between=False):
        """One word over the socket: sent or lost, never waited for."""
        self.between = between
        if _speaks_for_itself():
            return
        self.seq += 1
        text = "X_HORUS_AGENT=python\nWATCHDOG=1\nX_HORUS_SEQ=%d\n" % self.seq
        if between:
            until = int((time.time() + BETWEEN_LOOPS) * 1000)
            text += "X_HORUS_STATE=busy\nX_HORUS_BUSY_UNTIL_MS=%d\n" % until
        else:
            text += "X_HORUS_STATE=ok\n"
        if lag is not None:
            text += "X_HORUS_LAG_MS=%.1f\n" % (lag * 1000)
        self.send(text)

    def send(self, text):
        import _socket

        # Made anew each time: a program may close every descriptor that it does not know, and whoever gets the number next
        # would be sent our words.
        try:
            sender = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        except OSError:
            return
        try:
            sender.setblocking(False)
            sender.sendto(text.encode(), self.address)
        except OSError:
            pass
        finally:
            sender.close()

    def environment_for_exec(self, environment):
        """The program becomes another one in the same process, and that is watched as well."""
        if not self.is_ours() or "NOTIFY_SOCKET" not in environment:
            return environment
        path = environment.get("PYTHONPATH")
        return dict(environment, PYTHONPATH=self.here + os.pathsep + path if path else self.here)


class Turn:
    """One run of a loop."""

    def __init__(self, agent, loop):
        from contextvars import Context

        self.agent = agent
        self.loop = loop
        self.thread = _thread.get_ident()
        self.is_main = self.thread == agent.main_thread
        # Empty: nothing of the program is kept alive by us.
        self.context = Context()
        self.timer = None
        self.planned = None

    def fire(self):
        """The loop has turned."""
        try:
            agent = self.agent
            if agent.beating is not self or not agent.is_ours():
                return
            now = self.loop.time()
            planned, self.planned = self.planned, now + agent.every
            # First: whatever goes wrong with this word, the next one comes.
            self.timer = self.loop.call_at(self.planned, self.fire, context=self.context)
            agent.tell(None if planned is None else max(now - planned, 0.0))
        except Exception:
            # Whatever is wrong with us is no fault of the loop.
            pass


def _speaks_for_itself():
    """The program beats by Horus's own client, which knows more than we do."""
    client = sys.modules.get("horus_heartbeat._beat")
    return client is not None and any(beat.is_active for beat in list(getattr(client, "_alive", ())))


def _wrap(owner):
    import functools

    original = owner.__dict__.get("run_forever")
    if original is None or hasattr(original, "_horus"):
        return

    @functools.wraps(original)
    def run_forever(self):
        turn = None
        try:
            turn = _agent.begin(self)
        except Exception:
            pass
        try:
            return original(self)
        finally:
            if turn is not None:
                try:
                    _agent.end(turn)
                except Exception:
                    pass

    run_forever._horus = True
    owner.run_forever = run_forever


class _Finder:
    """Asked first for every module that is imported; says no, except to those that have loops."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in WANTED:
            return None
        for finder in sys.meta_path:
            find = None if finder is _Finder else getattr(finder, "find_spec", None)
            spec = find and find(name, path, target)
            if spec is not None:
                _follow(spec)
                return spec
        return None


def _follow(spec):
    """Has the module looked at when it is there. The loader is left as it was found."""
    loader = spec.loader
    if loader is None or isinstance(loader, type):
        return
    execute = loader.exec_module

    def exec_module(module):
        vars(loader).pop("exec_module", None)
        execute(module)
        try:
            _wrap_in(spec.name, module)
        except Exception:
            pass

    try:
        loader.exec_module = exec_module
    except AttributeError:
        pass


def _wrap_in(name, module):
    owner = getattr(module, WANTED[name], None)
    if isinstance(owner, type):
        if "run_forever" not in owner.__dict__ and hasattr(owner, "run_forever"):
            # uvloop's is inherited from a type that cannot be changed.
            _inherit(owner)
        _wrap(owner)


def _inherit(owner):
    inherited = owner.run_forever

    def run_forever(self):
        return inherited(self)

    run_forever.__doc__ = getattr(inherited, "__doc__", None)
    run_forever.__qualname__ = owner.__qualname__ + ".run_forever"
    owner.run_forever = run_forever


def _watch_exec():
    """`os.execl` and its family all end in one of these two."""
    execv, execve = os.execv, os.execve

    def watched_execv(path, argv):
        if _agent.is_ours():
            return execve(path, argv, _agent.environment_for_exec(os.environ))
        return execv(path, argv)

    def watched_execve(path, argv, env):
        return execve(path, argv, _agent.environment_for_exec(env))

    for name, watched, original in (("execv", watched_execv, execv), ("execve", watched_execve, execve)):
        watched.__name__ = watched.__qualname__ = name
        watched.__doc__ = original.__doc__
        setattr(os, name, watched)


def start(address, here):
    global _agent
    if _agent is None:
        _agent = Agent(address, here)
        sys.meta_path.insert(0, _Finder)
        _watch_exec()
        for name in WANTED:
            # Somebody's `.pth` file was faster.
            if name in sys.modules:
                _wrap_in(name, sys.modules[name])
