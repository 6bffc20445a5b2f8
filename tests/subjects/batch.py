"""A batch: it says which step it is in, and nothing else of itself.

  quiet   it waits for ever in the step that it is in, without printing or using anything
  next    it goes on to the next step
"""

import os
import pathlib
import socket
import sys
import time

triggers = pathlib.Path(sys.argv[1])
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sender.connect(os.environ["NOTIFY_SOCKET"])


def struck(name):
    try:
        (triggers / name).unlink()
        return True
    except FileNotFoundError:
        return False


for step in sys.argv[2:]:
    sender.send(f"X_HORUS_STEP={step}".encode())
    print("in the step", step, flush=True)
    while not struck("next"):
        if struck("quiet"):
            ours, _theirs = socket.socketpair()
            ours.recv(1)
        print("item done", flush=True)
        time.sleep(0.1)
sender.send(b"X_HORUS_STEP=")
