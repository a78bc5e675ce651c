"""The one running Loupe: the lock on its data folder, `instance.json`, and the services of this process.

The lock is the kernel's (flock), so it is gone the moment its process is, however that ended. `instance.json` only
tells others who holds it; a file without a lock is a leftover and is ignored.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from app.config import FILE_NAME
from app.core.errors import DiskFull, LoupeError, StoreError

if TYPE_CHECKING:
    from app.bootstrap import Services

LOCK_NAME = "instance.lock"
RECORD_NAME = "instance.json"


class AlreadyRunning(LoupeError):
    """Another Loupe holds the data folder; `pid` and `url` are its own words, 0 and "" while it is starting."""

    code: ClassVar[str] = "already_running"

    def __init__(self, data: Path, pid: int, url: str) -> None:
        who = f"process {pid}" + (f" at {url}" if url else "") if pid else "a process that is just starting"
        super().__init__(f"Loupe already runs on the data folder {data}: {who}. Stop it, or set LOUPE_DATA elsewhere.")
        self.data, self.pid, self.url = data, pid, url


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """What `instance.json` says. `token` admits the command line of the same user to the running instance."""

    pid: int
    url: str
    token: str = field(repr=False)
    started_at: str


class Instance:
    """Holder of the lock on a data folder. Use as a context manager, or call `release`."""

    def __init__(self, data: Path, descriptor: int) -> None:
        self._data = data
        self._descriptor = descriptor
        self.token = secrets.token_urlsafe(32)

    @classmethod
    def acquire(cls, data: Path) -> Instance:
        """Make the folder if need be and take its lock, or raise AlreadyRunning, StoreError or DiskFull."""
        prepare_data_folder(data)
        try:
            descriptor = os.open(data / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            raise _unusable(data, problem) from problem
        try:
            _lock(descriptor)
        except OSError as problem:
            os.close(descriptor)
            if not isinstance(problem, BlockingIOError):
                raise _unusable(data, problem) from problem
            first = _read(data)
            raise AlreadyRunning(data, first.pid if first else 0, first.url if first else "") from None
        with suppress(OSError):  # a leftover of a killed process would name the wrong one while we start
            (data / RECORD_NAME).unlink()
        return cls(data, descriptor)

    def announce(self, url: str) -> InstanceRecord:
        """Write `instance.json` (mode 0600, whole or not at all): from now on others can find us."""
        record = InstanceRecord(os.getpid(), url, self.token, datetime.now(UTC).isoformat(timespec="seconds"))
        draft = self._data / f"{RECORD_NAME}.{os.getpid()}"
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(asdict(record), file)
            draft.replace(self._data / RECORD_NAME)
        except OSError as problem:
            raise _unusable(self._data, problem) from problem
        return record

    def release(self) -> None:
        """Remove the record and give the lock back. The lock file stays: removing it would let two holders exist."""
        if self._descriptor < 0:
            return
        with suppress(OSError):
            (self._data / RECORD_NAME).unlink()
        os.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> Instance:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _lock(descriptor: int, attempts: int = 4) -> None:
    """Take the lock; a few tries, because `find_running` in another process holds it for an instant."""
    for attempt in range(attempts):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if attempt == attempts - 1:
                raise
            time.sleep(0.05)


def prepare_data_folder(data: Path) -> None:
    """Make the data folder, private to its user. Raises StoreError or DiskFull with one sentence.

    A folder that others can open is closed if it is new, empty or Loupe's already; one that holds something else
    is somebody's (a home, /tmp), and changing its mode would be wrong.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if data.stat().st_mode & 0o077:
            content = {entry.name for entry in data.iterdir()}
            if content and not content & {LOCK_NAME, FILE_NAME}:
                raise StoreError(
                    f"the data folder {data} holds other things and is open to others; name one of its own"
                )
            data.chmod(0o700)
    except OSError as problem:
        raise _unusable(data, problem) from problem
    if not os.access(data, os.W_OK | os.X_OK):
        raise StoreError(f"the data folder {data} is not writable; make it so, or set LOUPE_DATA elsewhere")


def find_running(data: Path) -> InstanceRecord | None:
    """The instance that holds the data folder now, if one does and has announced itself."""
    try:
        descriptor = os.open(data / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(data)
    finally:
        os.close(descriptor)
    return None


def _read(data: Path) -> InstanceRecord | None:
    try:
        content = json.loads((data / RECORD_NAME).read_text(encoding="utf-8"))
        return InstanceRecord(
            int(content["pid"]), str(content["url"]), str(content["token"]), str(content["started_at"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _unusable(data: Path, problem: OSError) -> StoreError:
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"no space is left for the data folder {data}")
    return StoreError(f"the data folder {data} cannot be used: {problem.strerror}; set LOUPE_DATA elsewhere")


class ServicesNotInstalled(RuntimeError):
    """A programming error: a page or command asked for the services before they were assembled."""


_installed: Services | None = None


def install(services: Services | None) -> None:
    """Make these the services of this process; None takes them away again (tests, shutdown)."""
    global _installed
    _installed = services


def current() -> Services:
    """The services of this process. Raises ServicesNotInstalled, because a second set would be a second queue."""
    if _installed is None:
        raise ServicesNotInstalled("no services are installed in this process; start it with `python -m app`")
    return _installed
