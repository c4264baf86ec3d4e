"""Runs at the start of every interpreter of a watched run: notes what a run must not do, in the file WATCHED.

The interpreter reports it itself (PEP 578), whatever package asks for it. Connections are refused as well.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

NETWORK = {
    "ftplib.connect",
    "http.client.connect",
    "socket.bind",
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyaddr",
    "socket.gethostbyname",
    "socket.getnameinfo",
    "socket.sendmsg",
    "socket.sendto",
    "urllib.Request",
}
NOTED = {*NETWORK, "os.exec", "os.posix_spawn", "os.system", "pickle.find_class", "subprocess.Popen"}


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in NOTED:
        return
    with open(os.environ["WATCHED"], "a", encoding="utf-8") as notes:
        notes.write(json.dumps([event, [repr(each) for each in arguments]]) + "\n")
    if event in NETWORK:
        raise PermissionError(f"{event} in a watched run")


if "WATCHED" in os.environ:
    sys.addaudithook(watch)
