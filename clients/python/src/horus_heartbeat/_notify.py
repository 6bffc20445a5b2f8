"""The socket: sd_notify datagrams, sent or dropped, never waited for."""

import os
import socket
from typing import List, Mapping, Optional

# Horus reads so much of one datagram.
MAX_DATAGRAM_BYTES = 4096
DEFAULT_EVERY = 1.0
FASTEST, SLOWEST = 0.1, 10.0


class Notifier:
    """Speaks to `NOTIFY_SOCKET`; to nobody where there is none."""

    def __init__(self, address: Optional[str], every: float = DEFAULT_EVERY) -> None:
        self.every = min(max(every, FASTEST), SLOWEST)
        self.dropped = 0
        self._socket: Optional[socket.socket] = None
        self._address = "\0" + address[1:] if address and address[0] == "@" else address
        if not address or not hasattr(socket, "AF_UNIX"):
            return
        try:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        except OSError:
            # A program has to start without its watchdog, too.
            self.close()

    @classmethod
    def from_environment(
        cls, environment: Optional[Mapping[str, str]] = None, every: Optional[float] = None
    ) -> "Notifier":
        said = os.environ if environment is None else environment
        if said.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
            try:
                # The protocol asks for a beat at half of the limit.
                half = int(said["WATCHDOG_USEC"]) / 2_000_000
                every = half if every is None else min(every, half)
            except (KeyError, ValueError):
                pass
        return cls(said.get("NOTIFY_SOCKET"), DEFAULT_EVERY if every is None else every)

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def send(self, text: str) -> bool:
        """Was it sent?"""
        if self._socket is None or self._address is None:
            return False
        try:
            self._socket.sendto(text.encode("utf-8", "replace"), self._address)
            return True
        except OSError:
            self.dropped += 1
            return False

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def one_line(text: str, limit: int) -> str:
    """Control characters would forge further lines of a datagram; they become spaces."""
    line = "".join(letter if letter.isprintable() else " " for letter in str(text)[:limit])
    return line.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")


def packed(head: str, lines: List[str]) -> List[str]:
    """Datagrams that fit, each with the head: one without a tick is no beat, and its numbers would be lost."""
    texts, text = [], head
    for line in lines:
        if len(text) + len(line) > MAX_DATAGRAM_BYTES:
            texts.append(text)
            text = head
        text += line
    return [*texts, text]
