"""The locks: versions and hashes of everything that is installed, made by uv for all platforms.

Two come from pyproject.toml; the clients of `make clients` have one of their own, which nothing of ours depends on.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tomllib
from pathlib import Path

from tooling.console import TaskFailed, say

HEADER = "# Made by `make lock`. From pyproject.toml: "
CLIENTS = "tests/clients/requirements.in"
CLIENTS_LOCK = "tests/clients/requirements.lock"
CLIENTS_HEADER = f"# Made by `make lock`. From {CLIENTS}: "


def fingerprint(pyproject: str) -> str:
    """A digest of everything in pyproject.toml that the locks depend on; stands in each lock's first line."""
    project = tomllib.loads(pyproject)["project"]
    relevant = [project["requires-python"], project["dependencies"], project["optional-dependencies"]]
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()


def pinned(lock: str) -> dict[str, str]:
    """Package name to version, as a lock pins them."""
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", lock, flags=re.MULTILINE))


def without_packages(lock: str, names: tuple[str, ...]) -> str:
    """The text of a lock less the entries of `names`; an entry is its line and the indented lines after it."""
    kept, dropping = [], False
    for line in lock.splitlines(keepends=True):
        if not line.startswith((" ", "#")):
            dropping = re.split(r"[=\s;\[]", line, maxsplit=1)[0] in names
        if not dropping:
            kept.append(line)
    return "".join(kept)


def make_locks(root: Path, uv: Path, arguments: list[str]) -> None:
    """Write the locks. Pins stay as they are where they still fit; `--upgrade` takes the newest.

    Raises:
        TaskFailed: uv found no set of versions, or cannot reach the index.
    """
    stamp = fingerprint((root / "pyproject.toml").read_text())
    ours = f"{HEADER}{stamp}"
    _compile(root, uv, "requirements.lock", ["pyproject.toml", "--extra", "embedded", *arguments], ours)
    same = ["pyproject.toml", "--extra", "embedded", "--extra", "dev", "--constraint", "requirements.lock", *arguments]
    _compile(root, uv, "requirements-dev.lock", same, ours)
    theirs = f"{CLIENTS_HEADER}{hashlib.sha256((root / CLIENTS).read_bytes()).hexdigest()}"
    _compile(root, uv, CLIENTS_LOCK, [CLIENTS, *arguments], theirs)


def _compile(root: Path, uv: Path, lock: str, arguments: list[str], header: str) -> None:
    words = [str(uv), "pip", "compile", "--universal", "--python-version", "3.11"]
    words += ["--fork-strategy", "fewest", "--generate-hashes", "--only-binary", ":all:", "--no-header", "--quiet"]
    words += ["--no-emit-index-url", "--no-emit-find-links", "--output-file", lock, *arguments]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise TaskFailed(f"uv could not make {lock}: {' '.join(done.stderr.split())[:600]}")
    path = root / lock
    path.write_text(f"{header}\n{path.read_text()}")
    say(f"{lock}: {len(pinned(path.read_text()))} packages")
