"""tasks.py for real, in a small copy of the checkout: pip makes environments from a lock and a folder of wheels."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DRIVER = "import sys; sys.path.insert(0, '.'); from tooling.verbs import {names}; {code}"
ENSURE = "VERBS['probe'] = lambda words: environment(dev={dev}).python.exists() - 1; sys.exit(run_verb(['probe']))"


class Checkout:
    """A folder with tasks.py, tooling/ and locks that name one tiny package, and an index that is a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wheels = folder.parent / "wheels"
        self.wheels.mkdir()
        folder.mkdir()
        for name in ("tasks.py", "Makefile"):
            shutil.copy(ROOT / name, folder)
        shutil.copytree(ROOT / "tooling", folder / "tooling", ignore=shutil.ignore_patterns("__pycache__"))
        self.lock("requirements.lock", "tiny", "1")
        self.lock("requirements-dev.lock", "tiny", "1", "tinydev", "1")
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder.parent),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_CONFIG_FILE": os.devnull,
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    @property
    def venv(self) -> Path:
        return self.folder / ".venv"

    def lock(self, name: str, *packages: str) -> None:
        pairs = list(zip(packages[::2], packages[1::2], strict=True))
        entries = [f"{package}=={version} --hash=sha256:{self.wheel(package, version)}" for package, version in pairs]
        (self.folder / name).write_text("\n".join(entries) + "\n")

    def wheel(self, package: str, version: str) -> str:
        """Make a wheel of one module; its sha256."""
        info = f"{package}-{version}.dist-info"
        files = {
            f"{package}.py": f"VERSION = {version!r}\n",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        rows = [f"{name},sha256={_urlsafe(text)},{len(text)}" for name, text in files.items()]
        files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""])
        path = self.wheels / f"{package}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in files.items():
                archive.writestr(zipfile.ZipInfo(name), text)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def words(self, *, dev: bool = False) -> list[str]:
        code = ENSURE.format(dev=dev)
        return [sys.executable, "-c", DRIVER.format(names="VERBS, environment, run_verb", code=code)]

    def ensure(self, *, dev: bool = False, **environ: str) -> subprocess.CompletedProcess[str]:
        return self.run(self.words(dev=dev), **environ)

    def run(self, words: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=self.folder, env=self.environ | environ, capture_output=True, text=True, check=False, timeout=100
        )

    def has(self, package: str) -> str | None:
        """The version of a package in the environment, or None."""
        words = [str(self.venv / "bin/python"), "-c", f"import {package}; print({package}.VERSION)"]
        done = self.run(words)
        return done.stdout.strip() if done.returncode == 0 else None


def _urlsafe(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path / "loupe")
    # The wheels here are bytes, so a small disk will do.
    environment = made.folder / "tooling" / "environment.py"
    environment.write_text(environment.read_text().replace("BYTES_NEEDED = 1_500_000_000", "BYTES_NEEDED = 10_000_000"))
    return made


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a failure."""
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_an_environment_is_made_once_and_grows_with_the_dev_lock(checkout):
    assert checkout.ensure().returncode == 0
    assert (checkout.has("tiny"), checkout.has("tinydev")) == ("1", None)
    before = sorted(path.stat().st_mtime_ns for path in checkout.venv.rglob("*"))
    started = time.monotonic()
    again = checkout.ensure(PIP_FIND_LINKS="/nowhere")  # a pip that were called would fail
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert time.monotonic() - started < 1.0
    assert sorted(path.stat().st_mtime_ns for path in checkout.venv.rglob("*")) == before
    assert checkout.ensure(dev=True).returncode == 0
    assert (checkout.has("tiny"), checkout.has("tinydev")) == ("1", "1")


def test_a_changed_lock_is_installed_and_a_failed_change_leaves_what_was(checkout):
    assert checkout.ensure().returncode == 0
    checkout.lock("requirements.lock", "tiny", "2")
    assert "reached" in one_line(
        checkout.ensure(PIP_NO_INDEX="0", PIP_INDEX_URL="http://127.0.0.1:9/", PIP_FIND_LINKS="", PIP_RETRIES="0")
    )
    assert checkout.has("tiny") == "1"
    assert checkout.ensure().returncode == 0
    assert checkout.has("tiny") == "2"


def test_a_half_made_environment_is_made_anew(checkout):
    checkout.venv.mkdir()
    (checkout.venv / "loupe-making").touch()
    (checkout.venv / "left-behind").touch()
    done = checkout.ensure()
    assert done.returncode == 0, done.stderr
    assert "half-made" in done.stdout
    assert not (checkout.venv / "left-behind").exists()
    assert checkout.has("tiny") == "1"


def test_an_environment_of_somebody_else_is_filled_and_kept(checkout):
    checkout.run([sys.executable, "-m", "venv", str(checkout.venv)])
    (checkout.venv / "theirs").touch()
    assert checkout.ensure().returncode == 0
    assert (checkout.venv / "theirs").exists()
    assert checkout.has("tiny") == "1"


def test_without_a_network_nothing_half_made_stays(checkout):
    done = checkout.ensure(PIP_NO_INDEX="0", PIP_INDEX_URL="http://127.0.0.1:9/", PIP_FIND_LINKS="", PIP_RETRIES="0")
    assert "the package index cannot be reached" in one_line(done)
    assert not checkout.venv.exists()


def test_a_package_that_is_not_the_locked_one_is_refused(checkout):
    checkout.lock("requirements.lock", "tiny", "1")
    wheel = checkout.wheels / "tiny-1-py3-none-any.whl"
    wheel.write_bytes(wheel.read_bytes() + b"x")
    assert "not the one in the lock" in one_line(checkout.ensure())
    assert not checkout.venv.exists()


def test_an_interrupted_start_leaves_nothing(checkout, wait_until):
    checkout.lock("requirements.lock", "tiny", "1", "absent", "1")
    (checkout.wheels / "absent-1-py3-none-any.whl").unlink()
    os.mkfifo(checkout.wheels / "absent-1-py3-none-any.whl")  # pip waits here for somebody to write
    started = subprocess.Popen(checkout.words(), cwd=checkout.folder, env=checkout.environ)
    try:
        wait_until(lambda: list(checkout.venv.glob("bin/pip")), 30, "the environment to be under way")
    finally:
        started.send_signal(signal.SIGTERM)
    assert started.wait(20) == 130
    assert not checkout.venv.exists()


def test_two_starts_at_once_make_one_environment(checkout):
    both = [
        subprocess.Popen(checkout.words(), cwd=checkout.folder, env=checkout.environ, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=100)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("Making the Python environment" in text for text in said) == 1
    assert checkout.has("tiny") == "1"


def privately(script: str) -> list[str]:
    """The words that run a shell script with mounts of its own; the test is skipped where that is not permitted."""
    allowed = (
        subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False) if shutil.which("unshare") else None
    )
    if allowed is None or allowed.returncode != 0:
        pytest.skip("mounts of one's own are not permitted here")
    return ["unshare", "-m", "sh", "-ec", textwrap.dedent(script)]


def test_a_read_only_folder_is_named(checkout):
    script = f"""
        mount --bind {checkout.folder} {checkout.folder}
        mount -o remount,ro,bind {checkout.folder}
        cd {checkout.folder}
        exec "$@"
    """
    line = one_line(checkout.run([*privately(script), "sh", *checkout.words()]))
    assert f"{checkout.folder} cannot be written" in line


@pytest.mark.parametrize(("size", "said"), [("4m", "GB are free"), ("24m", "no space left on the disk")])
def test_a_full_disk_is_named_before_or_after_it_fills(checkout, size, said):
    """4 MB: seen beforehand. 24 MB: enough by the figure, and full while pip itself is unpacked."""
    script = f"""
        cp -r {checkout.folder} {checkout.folder}-copy
        mount -t tmpfs -o size={size} tmpfs {checkout.folder}
        cp -r {checkout.folder}-copy/. {checkout.folder}
        cd {checkout.folder}
        "$@" || status=$?
        test ! -e .venv || echo "left behind"
        exit $status
    """
    checkout.lock("requirements.lock", "tiny", "1")
    if size == "24m":
        big = checkout.wheels / "tiny-1-py3-none-any.whl"
        with zipfile.ZipFile(big, "a") as archive:
            archive.writestr("tiny_data.bin", os.urandom(20_000_000))
        digest = hashlib.sha256(big.read_bytes()).hexdigest()
        (checkout.folder / "requirements.lock").write_text(f"tiny==1 --hash=sha256:{digest}\n")
    done = checkout.run([*privately(script), "sh", *checkout.words()])
    assert said in one_line(done)
    assert "left behind" not in done.stdout


def test_an_old_python_alone_is_one_line(checkout, tmp_path):
    code = "import tasks; tasks.NEWEST = (3, 11); tasks.OLDEST = (3, 11); tasks.sys.version_info = (3, 8, 1)"
    done = checkout.run([sys.executable, "-c", f"{code}; raise SystemExit(tasks.main())"], PATH=str(tmp_path))
    assert "needs Python 3.11" in one_line(done)
    assert "this is 3.8" in one_line(done)


def test_a_newer_python_on_path_is_taken(checkout, tmp_path):
    for minor, body in ((14, "exit 1"), (12, 'case "$1" in -c) exit 0;; esac; echo started with "$@"')):
        program = tmp_path / f"python3.{minor}"
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    code = "import tasks; tasks.sys.version_info = (3, 8, 1); tasks.sys.argv[1:] = ['help']; tasks.main()"
    done = checkout.run([sys.executable, "-c", code], PATH=str(tmp_path))
    assert done.stdout.split()[:2] == ["started", "with"], done.stderr
    assert done.stdout.endswith("tasks.py help\n")


def test_make_without_any_python_is_one_line(checkout, tmp_path):
    make = shutil.which("make")
    if make is None:
        pytest.skip("no make here")
    (tmp_path / "sh").symlink_to("/bin/sh")
    done = checkout.run([make, "run"], PATH=str(tmp_path))
    assert done.returncode != 0
    assert "needs Python 3.11" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_help_lists_the_verbs_and_an_unknown_one_is_refused(checkout):
    assert "make VERB" in checkout.run([sys.executable, "tasks.py"]).stdout
    unknown = checkout.run([sys.executable, "tasks.py", "fly"])
    assert unknown.returncode == 2
    assert "there is no verb 'fly'" in unknown.stderr
