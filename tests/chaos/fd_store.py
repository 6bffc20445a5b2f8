"""A service manager's fd store, as much of it as Horus uses: keeps descriptors over the death of the daemon.

  fd_store.py serve NOTIFY STORE       listens at NOTIFY (FDSTORE=1, FDSTOREREMOVE=1), gives everything to who connects to STORE
  fd_store.py launch STORE PROGRAM...  becomes the program, with LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID
"""

import os
import selectors
import socket
import sys

BATCH = 100


def serve(notify_path, store_path):
    kept = []  # (name, fd)
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(notify_path)
    store = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    store.bind(store_path)
    store.listen(8)
    ready = selectors.DefaultSelector()
    ready.register(notify, selectors.EVENT_READ, hear)
    ready.register(store, selectors.EVENT_READ, give)
    while True:
        for key, _ in ready.select():
            kept = key.data(key.fileobj, kept)


def hear(notify, kept):
    text, fds, _, _ = socket.recv_fds(notify, 4096, 16)
    fields = dict(line.split("=", 1) for line in text.decode().splitlines() if "=" in line)
    name = fields.get("FDNAME", "stored")
    if fields.get("FDSTOREREMOVE") == "1":
        for known, fd in kept:
            if known == name:
                os.close(fd)
        return [(known, fd) for known, fd in kept if known != name]
    if fields.get("FDSTORE") == "1" and fields.get("FDPOLL") == "0":
        return kept + [(name, fd) for fd in fds]
    for fd in fds:
        os.close(fd)
    return kept


def give(store, kept):
    peer, _ = store.accept()
    try:
        for start in range(0, len(kept), BATCH):
            part = kept[start : start + BATCH]
            socket.send_fds(peer, [":".join(name for name, _ in part).encode()], [fd for _, fd in part])
        peer.send(b"end")
    except OSError:
        # Killed while it was being started: the next one asks again.
        pass
    finally:
        peer.close()
    return kept


def launch(store_path, program):
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    peer.connect(store_path)
    names, received = [], []
    while True:
        text, fds, _, _ = socket.recv_fds(peer, 65536, BATCH)
        if text in (b"end", b""):
            break
        names += text.decode().split(":")
        received += fds
    peer.close()
    # Out of the way of the numbers that they get.
    high = [os.dup2(fd, 1000 + place) for place, fd in enumerate(received)]
    for fd in received:
        os.close(fd)
    for place, fd in enumerate(high):
        os.dup2(fd, 3 + place, inheritable=True)
        os.close(fd)
    os.environ.update(LISTEN_FDS=str(len(high)), LISTEN_FDNAMES=":".join(names), LISTEN_PID=str(os.getpid()))
    os.execvp(program[0], program)


if sys.argv[1] == "serve":
    serve(sys.argv[2], sys.argv[3])
else:
    launch(sys.argv[2], sys.argv[3:])
