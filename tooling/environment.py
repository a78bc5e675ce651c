"""The Python environment in .venv: made once from a lock, used as it is afterwards, never left half-made.

Two files inside it say what it is: `loupe-making` exists exactly while something is being changed in it, and
`loupe-environment.json`, written last, names what is installed. An environment with the first is half-made and is
made anew; one without either was made by somebody else: the lock is installed into it and nothing is removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from tooling import pip_install
from tooling.console import TaskFailed, say
from tooling.system_packages import ensure_venv_module

RUNTIME_LOCK = "requirements.lock"
DEV_LOCK = "requirements-dev.lock"  # holds everything of RUNTIME_LOCK too
BYTES_NEEDED = 1_500_000_000  # the environment is about 1 GB, and pip unpacks beside it


class Environment:
    """The environment of the checkout at `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / ".venv"
        self.python = self.folder / "bin" / "python"
        self._stamp = self.folder / "loupe-environment.json"
        self._making = self.folder / "loupe-making"

    def ensure(self, *, dev: bool) -> None:
        """Make the environment hold what is locked; costs a few file reads when it does already.

        Raises:
            TaskFailed: no network, no space, a folder that cannot be written; nothing half-made stays.
        """
        if self._is_ready(dev):
            return
        try:
            with self._only_one():
                if not self._is_ready(dev):
                    self._make(dev)
        except OSError as error:
            raise TaskFailed(self._explain(error)) from error

    def _is_ready(self, dev: bool) -> bool:
        if self._making.exists() or not self.python.exists():
            return False
        installed = self._installed()
        names = (RUNTIME_LOCK, DEV_LOCK) if dev else (RUNTIME_LOCK,)
        return installed.get("python") == _minor_version() and all(
            installed.get(name) == self._digest(name) for name in names
        )

    def _installed(self) -> dict[str, str]:
        try:
            stamp: dict[str, str] = json.loads(self._stamp.read_text())
        except (OSError, ValueError):
            return {}
        return stamp

    def _digest(self, lock: str) -> str:
        try:
            return hashlib.sha256((self.root / lock).read_bytes()).hexdigest()
        except OSError as error:
            raise TaskFailed(f"{lock} cannot be read: {error.strerror}; this checkout is not whole") from error

    @contextlib.contextmanager
    def _only_one(self) -> Iterator[None]:
        """Two tasks started together make one environment: the second waits. The lock is on the folder itself."""
        descriptor = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _make(self, dev: bool) -> None:
        self._remove_if_useless()
        ensure_venv_module()
        fresh = not self.folder.exists()
        self.folder.mkdir(exist_ok=True)
        if fresh or self._stamp.exists():  # a foreign one is never removed, so never marked
            self._making.touch()
        try:
            if fresh:
                self._create()
            self._install(DEV_LOCK if dev else RUNTIME_LOCK)
        except BaseException as problem:
            if fresh:
                shutil.rmtree(self.folder, ignore_errors=True)
            elif isinstance(problem, pip_install.NothingChanged):
                self._making.unlink(missing_ok=True)
            raise

    def _remove_if_useless(self) -> None:
        """Remove what an interrupted start left, and an environment whose Python is gone or another."""
        if not self.folder.exists():
            return
        python = self._installed().get("python")
        if self._making.exists() or not self.python.exists() or python not in (None, _minor_version()):
            say(f"Removing {self.folder}: it is half-made, or made for another Python")
            shutil.rmtree(self.folder)

    def _create(self) -> None:
        free = shutil.disk_usage(self.root).free
        if free < BYTES_NEEDED:
            needed = f"{BYTES_NEEDED / 1e9:.1f} GB"
            raise TaskFailed(f"the environment needs {needed} in {self.root}, and {free / 1e9:.2f} GB are free")
        say(f"Making the Python environment in {self.folder} (once; about a minute) ...")
        pip_install.run([sys.executable, "-m", "venv", "--without-pip", str(self.folder)])
        pip_install.run([str(self.python), "-m", "ensurepip", "--default-pip"])

    def _install(self, lock: str) -> None:
        pip_install.install(self.python, self.root / lock)
        stamp = {"python": _minor_version(), RUNTIME_LOCK: self._digest(RUNTIME_LOCK)}
        if lock == DEV_LOCK:
            stamp[DEV_LOCK] = self._digest(DEV_LOCK)
        self._stamp.write_text(json.dumps(stamp))
        self._making.unlink(missing_ok=True)

    def _explain(self, error: OSError) -> str:
        if error.errno == errno.ENOSPC:
            return f"no space left on the disk of {self.root}; the environment needs {BYTES_NEEDED / 1e9:.1f} GB"
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            return f"{self.root} cannot be written ({error.strerror}): put the checkout where you may write"
        return f"the environment in {self.folder} could not be made: {error}"


def _minor_version() -> str:
    """As "3.11": environments go on working through a patch release of their Python."""
    return ".".join(platform.python_version_tuple()[:2])
