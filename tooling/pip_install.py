"""pip, called in one way only: from a lock, with hashes, wheels alone; its failures put into one line each."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from tooling.console import TaskFailed, say
from tooling.locks import without_packages

EMBEDDED = ("xllamacpp", "libggml-python")

UNREACHABLE = "the package index cannot be reached: check the network or pip's settings, then run this again"

# What pip prints, and what it means. The first that is found wins.
MEANINGS = (
    ("No space left on device", "no space left on the disk while installing"),
    ("DO NOT MATCH THE HASHES", "a downloaded package is not the one in the lock: the index or a proxy altered it"),
    ("SSLError", "the package index cannot be trusted: check the certificates in pip's settings"),
    ("Connection refused", UNREACHABLE),
    ("NewConnectionError", UNREACHABLE),
    ("Name or service not known", UNREACHABLE),
    ("Temporary failure in name resolution", UNREACHABLE),
    ("ReadTimeoutError", UNREACHABLE),
    ("ConnectTimeoutError", UNREACHABLE),
    (
        "No matching distribution found",
        "the package index has no wheel of a locked package for this Python and machine",
    ),
)


class NothingChanged(TaskFailed):
    """pip gave up before it installed anything: the environment is as it was."""


def install(python: Path, lock: Path) -> None:
    """Install what `lock` names into the environment of `python`.

    Raises:
        NothingChanged: pip failed before the first package was installed.
        TaskFailed: pip failed later; the environment is half-made.
    """
    with tempfile.TemporaryDirectory(prefix="loupe-lock-") as folder:
        source = lock
        if not embedded_wheels_fit():
            say("The embedded runtime has no wheel for this machine: Loupe will ask for an Ollama")
            source = Path(folder) / lock.name
            source.write_text(without_packages(lock.read_text(), EMBEDDED))
        words = [str(python), "-m", "pip", "install", "--require-hashes", "--only-binary=:all:", "--no-input"]
        words += ["--disable-pip-version-check", "--progress-bar=off", "--retries=2", "-r", str(source)]
        output = _run(words)
    if output is None:
        return
    kind = TaskFailed if "Installing collected packages" in output else NothingChanged
    raise kind(meaning(output))


def run(words: list[str]) -> None:
    """Run a step on the way to a usable pip.

    Raises:
        TaskFailed: it failed, with what it said in one line.
    """
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise TaskFailed(meaning(done.stdout + done.stderr))


def embedded_wheels_fit() -> bool:
    """Whether this system is new enough for the embedded runtime's wheels; what markers cannot say."""
    if sys.platform == "darwin":
        return int(platform.mac_ver()[0].split(".")[0] or 0) >= 13
    name, version = platform.libc_ver()
    return name == "glibc" and tuple(map(int, version.split(".")[:2])) >= (2, 28)


def _run(words: list[str]) -> str | None:
    """Run pip, counting packages on a terminal; its output if it failed, else None."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    pip = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
    )
    try:
        output = _followed(pip)
    except BaseException:
        pip.kill()  # whoever interrupts us removes the folder that it writes to
        raise
    finally:
        pip.wait()
    return None if pip.returncode == 0 else output


def _followed(pip: subprocess.Popen[str]) -> str:
    """Everything that pip prints, with a count of packages on the terminal while it does."""
    lines: list[str] = []
    seen = 0
    for line in pip.stdout or ():
        lines.append(line)
        if line.startswith("Collecting "):
            seen += 1
            _progress(f"  {seen} packages found")
        elif line.startswith("Installing collected"):
            _progress("  installing               ")
    _progress("", end="\r")
    return "".join(lines)


def _progress(text: str, end: str = "") -> None:
    if sys.stdout.isatty():
        print(f"\r{text}", end=end, flush=True)


def meaning(output: str) -> str:
    for mark, meaning in MEANINGS:
        if mark in output:
            return meaning
    errors = [line for line in output.splitlines() if line.startswith("ERROR:")] or output.strip().splitlines()
    return f"the environment could not be made: {errors[-1] if errors else 'it said nothing'}"
