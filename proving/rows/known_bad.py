"""Row 32: a version with a known hole, a file that starts itself or an entry without a hash does not go unnoticed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import threading
from collections.abc import Iterable
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from app import cli_audit
from app.cli_audit import FLOORS, LOCKS, Finding, audit, of_host, of_locks, of_sqlite
from app.core.hosts import HostAddress
from proving.cache_rig import replaced
from proving.promises import Run, promise

NO_FLOORS = "no floors"
NO_START_FILES = "start-up files not looked at"
NO_HASHES = "locks not looked at"
ROOT = Path(__file__).parents[2]
BAD = {
    "starlette": ("0.46.0", "0.49.1", "1.0.1", "1.1.0rc1", "1.1.0.dev3"),
    "python-multipart": ("0.0.9", "0.0.18", "0.0.21"),
    "streamlit": ("1.29.0", "1.37.1", "1.53.1"),
    "xllamacpp": ("0.2.1", "2026.1.8145", "2025.12.7000"),
}
GOOD = {
    "starlette": ("1.1.0", "1.10.0", "2.0"),
    "python-multipart": ("0.0.22", "0.0.100", "0.1"),
    "streamlit": ("1.54.0", "1.67.0"),
    "xllamacpp": ("2026.2.8146", "2026.10.11549"),
}
STARTING = ("import os; os.system('true')", "/somewhere\nimport this", "import\tsys")


def _installed(folder: Path, package: str, version: str) -> Path:
    """A folder of packages with that one in it."""
    place = folder / f"{package}-{version}"
    info = place / f"{package.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    return place


def _refused(findings: Iterable[Finding]) -> list[str]:
    return [finding.text for finding in findings if finding.refused]


def _versions(run: Run) -> None:
    for versions, refused in ((BAD, True), (GOOD, False)):
        for package, those in versions.items():
            for version in those:
                found = _refused(audit([_installed(run.folder, package, version)], []))
                run.trial(bool(found) == refused, f"{package} {version}: {found}")
    run.trial({floor.package for floor in FLOORS} == set(BAD), "a floor is not tried")


def _start_files(run: Run) -> None:
    for number, text in enumerate(STARTING):
        for name in ("litellm_init.pth", "distutils-precedence.pth"):
            folder = run.folder / f"site {number} {name}"
            folder.mkdir()
            (folder / name).write_text(text)
            run.trial(bool(_refused(audit([], [folder]))), f"{name} with {text!r} went unnoticed")
    for name in ("sitecustomize.py", "usercustomize.py"):
        folder = run.folder / name
        folder.mkdir()
        (folder / name).touch()
        run.trial(bool(_refused(audit([], [folder]))), f"{name} went unnoticed")


def _locks(run: Run) -> None:
    """Each lock of ours as it is, and with an entry of it altered, at every fifth entry."""
    for name in LOCKS:
        text = (ROOT / name).read_text()
        run.trial(not _refused(of_locks([ROOT / name])), f"{name} is refused")
        entries = list(re.finditer(r"^([a-z0-9._-]+)==\S+.*\\\n((?: +--hash=.*\n)+)", text, re.MULTILINE))
        for entry in entries[:: run.scale(short=20, full=1)]:
            altered = run.folder / name
            altered.write_text(text[: entry.start(2)] + text[entry.end(2) :])
            run.trial(bool(_refused(of_locks([altered]))), f"{name} without a hash of {entry[1]} is not refused")
        for package, versions in BAD.items():
            altered = run.folder / name
            altered.write_text(re.sub(rf"^{package}==[^\s;]+", f"{package}=={versions[-1]}", text, flags=re.MULTILINE))
            run.trial(bool(_refused(of_locks([altered]))), f"{name} with {package} {versions[-1]} is not refused")


class _Host(BaseHTTPRequestHandler):
    version = ""

    def do_GET(self) -> None:
        body = f'{{"version":"{self.version}"}}'.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the library's name
        return


def _warnings(run: Run) -> None:
    """What is not ours to refuse is told: SQLite of the Python in use, the Ollama of a host."""
    for version, warned in (((3, 40, 1), True), ((3, 51, 2), True), ((3, 51, 3), False), ((3, 52, 0), False)):
        found = list(of_sqlite(version))
        run.trial(bool(found) == warned and not _refused(found), f"SQLite {version}: {found}")
    server = HTTPServer(("127.0.0.1", 0), _Host)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = HostAddress("one", f"http://127.0.0.1:{server.server_address[1]}")
    try:
        for release, warned in (("0.1.46", True), ("0.17.0", True), ("0.17.1", False), ("0.33.0", False)):
            _Host.version = release
            found = list(of_host(host))
            run.trial(bool(found) == warned and not _refused(found), f"Ollama {release}: {found}")
    finally:
        server.shutdown()
        server.server_close()
    run.trial(not list(of_host(host)), "a host that does not answer is no finding")


async def _command(run: Run) -> None:
    """The command itself, on this environment, and on one with an old version in front of it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LOUPE_", "OLLAMA_", "PYTHON"))}
    bill, old = run.folder / "bill.json", _installed(run.folder / "old", "starlette", "1.0.0")
    for more, status in (({}, 0), ({"PYTHONPATH": str(old)}, 1)):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app", "audit-deps", "--sbom", str(bill), cwd=ROOT,
            env={**clean, "LOUPE_DATA": str(run.folder / "data"), **more},
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, said = await process.communicate()
        run.trial(process.returncode == status, f"exit {process.returncode}, not {status}: {said.decode()[:300]}")
    run.trial(len(json.loads(bill.read_text())["components"]) > 30, "the bill of materials is empty")


@promise(
    32,
    "Known-bad versions cannot be installed unnoticed",
    section="gateway",
    figure="`audit-deps`, and `make check` with it, refuses starlette < 1.1.0, python-multipart < 0.0.22, "
    "streamlit < 1.54 and llama.cpp < b8146, installed or locked, start-up files that are not known, and a lock's "
    "entry without a hash; it warns of SQLite < 3.51.3 and of an Ollama < 0.17.1; without a network",
    controls=(NO_FLOORS, NO_START_FILES, NO_HASHES),
    untested="holes that became known after the table was written: it has no network to ask",
)
async def known_bad_versions(run: Run) -> None:
    with ExitStack() as off:
        if run.off == NO_FLOORS:
            off.enter_context(replaced(cli_audit, "FLOORS", ()))
        elif run.off == NO_START_FILES:
            off.enter_context(replaced(cli_audit, "of_start_files", lambda folder, installed: ()))
        elif run.off == NO_HASHES:
            off.enter_context(replaced(sys.modules[__name__], "of_locks", lambda locks: ()))
        for control, part in ((NO_FLOORS, _versions), (NO_START_FILES, _start_files), (NO_HASHES, _locks)):
            if run.off in ("", control):
                part(run)
        if not run.off:
            _warnings(run)
            await _command(run)
