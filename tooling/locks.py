"""The locks: versions and hashes of everything that is installed, made by uv from pyproject.toml, for all platforms."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tomllib
from pathlib import Path

from tooling.console import TaskFailed, say

HEADER = "# Made by `make lock`. From pyproject.toml: "


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
    """Write both locks. Pins stay as they are where they still fit; `--upgrade` takes the newest.

    Raises:
        TaskFailed: uv found no set of versions, or cannot reach the index.
    """
    stamp = fingerprint((root / "pyproject.toml").read_text())
    _compile(root, uv, "requirements.lock", ["--extra", "embedded", *arguments], stamp)
    same = ["--extra", "embedded", "--extra", "dev", "--constraint", "requirements.lock", *arguments]
    _compile(root, uv, "requirements-dev.lock", same, stamp)


def _compile(root: Path, uv: Path, lock: str, arguments: list[str], stamp: str) -> None:
    words = [str(uv), "pip", "compile", "pyproject.toml", "--universal", "--python-version", "3.11"]
    words += ["--fork-strategy", "fewest", "--generate-hashes", "--only-binary", ":all:", "--no-header", "--quiet"]
    words += ["--no-emit-index-url", "--no-emit-find-links", "--output-file", lock, *arguments]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise TaskFailed(f"uv could not make {lock}: {' '.join(done.stderr.split())[:600]}")
    path = root / lock
    path.write_text(f"{HEADER}{stamp}\n{path.read_text()}")
    say(f"{lock}: {len(pinned(path.read_text()))} packages")
