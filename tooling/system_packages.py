"""What wheels cannot bring: libgomp, ensurepip, Chromium. Installed by apt where that needs no question, else named."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tooling.console import TaskFailed, say, warn

PROMETHEUS = Path(__file__).resolve().parents[1] / "build" / "prometheus"
OLDEST_PROMETHEUS = (2, 42)
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_IN_APPLICATIONS = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)


def apt_command() -> list[str] | None:
    """The words that run apt-get without asking anybody, or None: we are root, or sudo wants no password."""
    if shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return ["apt-get"]
    if shutil.which("sudo") is None:
        return None
    quiet = subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False)
    return ["sudo", "-n", "apt-get"] if quiet.returncode == 0 else None


def find_prometheus() -> Path | None:
    """The folder of `prometheus` and `promtool`: what is on PATH, or what was unpacked here; None without either."""
    on_path = shutil.which("promtool") if shutil.which("prometheus") else None
    places = [Path(on_path).parent if on_path else None, PROMETHEUS / "usr/bin"]
    return next((place for place in places if place and _reads_our_rules(place / "promtool")), None)


def _reads_our_rules(promtool: Path) -> bool:
    """From 2.42 on it knows `keep_firing_for`."""
    if not promtool.exists():
        return False
    told = subprocess.run([promtool, "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"version (\d+)\.(\d+)", told.stdout + told.stderr)
    return version is not None and (int(version[1]), int(version[2])) >= OLDEST_PROMETHEUS


def ensure_prometheus() -> bool:
    """Whether a Prometheus is here for the tests of `deploy/`. Debian's package is unpacked under `build/`, and not
    installed: nobody's machine is to run a server because it ran our tests.

    Raises:
        TaskFailed: there is an apt-get, and it did not bring it. Elsewhere those tests are skipped.
    """
    if find_prometheus() is not None:
        return True
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        warn("No Prometheus here: the tests of its rules are skipped (put prometheus and promtool on PATH to run them)")
        return False
    say("Unpacking Prometheus for the tests ...")
    problem = _unpack("prometheus", PROMETHEUS)
    if find_prometheus() is not None:
        return True
    if (PROMETHEUS / "usr/bin/promtool").exists():
        warn("This system's Prometheus is older than 2.42: the tests of its rules are skipped")
        return False
    raise TaskFailed(f"the tests of the alert rules need Prometheus, and it could not be had: {problem}")


def _unpack(package: str, target: Path) -> str:
    """A Debian package's files into a folder; "" when done, else what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)  # noqa: PTH101, S103 - apt downloads as a user of its own
        fetch = ["apt-get", "download", "-q", package]
        done = subprocess.run(fetch, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0 and (apt := apt_command()) is not None:  # its lists may be missing or old
            subprocess.run([*apt, "update", "-q"], capture_output=True, check=False)
            done = subprocess.run(fetch, cwd=folder, capture_output=True, text=True, check=False)
        found = list(Path(folder).glob("*.deb"))
        if not found:
            return (done.stderr.strip().splitlines() or ["apt-get download brought nothing"])[-1]
        target.mkdir(parents=True, exist_ok=True)
        opened = subprocess.run(["dpkg-deb", "-x", found[0], target], capture_output=True, text=True, check=False)
        return opened.stderr.strip()


def apt_install(*packages: str) -> str | None:
    """Install Debian packages; None when done, else one line that says why not."""
    apt = apt_command()
    if apt is None:
        return (
            "apt-get cannot be used here without a password" if shutil.which("apt-get") else "there is no apt-get here"
        )
    say(f"Installing {' '.join(packages)} with apt-get ...")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run([*apt, *words], capture_output=True, text=True, check=False, env=environment)
        if done.returncode != 0 and words[0] == "install":
            errors = [line for line in done.stderr.splitlines() if line.startswith("E:")]
            return f"apt-get install failed: {errors[0][2:].strip() if errors else 'exit ' + str(done.returncode)}"
    return None


def ensure_venv_module() -> None:
    """Make `python -m venv` usable; Debian and Ubuntu leave ensurepip out of python3.

    Raises:
        TaskFailed: it is missing and cannot be installed from here.
    """
    if importlib.util.find_spec("ensurepip") is not None:
        return
    package = f"python3.{sys.version_info.minor}-venv"
    problem = apt_install(package)
    importlib.invalidate_caches()
    if problem is not None or importlib.util.find_spec("ensurepip") is None:
        raise TaskFailed(f"this Python cannot make environments: install {package} (sudo apt-get install {package})")


def ensure_libgomp() -> bool:
    """Whether libgomp.so.1, which the embedded runtime's wheel needs, loads; installed where possible."""
    if sys.platform != "linux" or _loads("libgomp.so.1"):
        return True
    problem = apt_install("libgomp1")
    if problem is None and _loads("libgomp.so.1"):
        return True
    warn(f"The embedded runtime needs libgomp.so.1 ({problem}): sudo apt-get install libgomp1 (an Ollama does without)")
    return False


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def find_chromium() -> str | None:
    """The path of a Chromium or Chrome on this machine, or None. LOUPE_CHROMIUM wins where it is set."""
    return next(_chromiums(), None)


def _chromiums() -> Iterator[str]:
    chosen = os.environ.get("LOUPE_CHROMIUM")
    if chosen:
        yield chosen
    for name in CHROMIUM_NAMES:
        path = shutil.which(name)
        if path is not None:
            yield path
    yield from (path for path in CHROMIUM_IN_APPLICATIONS if Path(path).exists())
    for cache in (Path.home() / ".cache/ms-playwright", Path.home() / "Library/Caches/ms-playwright"):
        for pattern in ("chromium-*/chrome-linux*/chrome", "chromium-*/chrome-mac*/*.app/Contents/MacOS/*"):
            yield from (str(path) for path in sorted(cache.glob(pattern), reverse=True))


def ensure_chromium() -> bool:
    """Whether a Chromium is here for the browser tests; installed by apt where that needs no question.

    Raises:
        TaskFailed: apt could be used and did not bring it. Where apt cannot be used those tests are skipped.
    """
    if find_chromium() is not None:
        return True
    if apt_command() is None:
        warn("No Chromium here: the browser tests are skipped (install chromium or Google Chrome to run them)")
        return False
    problem = apt_install("chromium", "fonts-liberation")
    if find_chromium() is None:
        raise TaskFailed(f"the browser tests need Chromium, and it could not be installed: {problem or 'not on PATH'}")
    return True
