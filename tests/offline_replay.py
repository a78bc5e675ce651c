"""Cases that must not find a name: played in a network namespace with a loopback, no route, and a name server that
knows no name, as the machine of the recordings had it.

`python -m tests.offline_replay FOLDER CASE …` is the part that runs inside.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

from tests.golden_session import OFFLINE, play
from tests.http_target import Reply
from tests.runtime_process import ROOT, runtime

_APART = ["unshare", "--net", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
_SIOCSIFFLAGS, _UP = 0x8914, 0x1
_NO_SUCH_NAME = 0x8183  # a response, recursion available, NXDOMAIN (RFC 1035)


def impossible() -> str:
    """Why this machine cannot do it, or ""."""
    try:
        tried = subprocess.run([*_APART, "true"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no network namespace on this machine: {error}"
    return "" if tried.returncode == 0 else f"no network namespace on this machine: {tried.stderr.strip()}"


def play_apart(folder: Path) -> dict[str, Reply]:
    command = [*_APART, sys.executable, "-m", "tests.offline_replay", str(folder), *OFFLINE]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    return {case: Reply(status, headers, base64.b64decode(body)) for case, (status, headers, body) in told.items()}


def _bring_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", _UP) + bytes(22))


def _know_no_name() -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))

    def answer() -> None:
        while True:
            question, sender = server.recvfrom(4096)
            header = question[:2] + struct.pack(">HHHHH", _NO_SUCH_NAME, 1, 0, 0, 0)
            end = question.index(b"\0", 12) + 5
            server.sendto(header + question[12:end], sender)

    threading.Thread(target=answer, daemon=True).start()


def main(folder: Path, cases: list[str]) -> None:
    _bring_loopback_up()
    _know_no_name()
    resolver = folder / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\n")
    subprocess.run(["mount", "--bind", str(resolver), "/etc/resolv.conf"], check=True)
    with runtime(folder / "store", folder / "log") as server:
        told = {case: play(server, None, case) for case in cases}
    packed = {
        case: (reply.status, reply.headers, base64.b64encode(reply.body).decode()) for case, reply in told.items()
    }
    print(json.dumps(packed))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
