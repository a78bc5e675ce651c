"""The lock on the data folder and what `instance.json` tells."""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app import instance
from app.core.errors import StoreError
from app.instance import AlreadyRunning, Instance, ServicesNotInstalled, find_running

HOLDER = """
import sys, time
from pathlib import Path
from app.instance import Instance
held = Instance.acquire(Path(sys.argv[1]))
held.announce("http://127.0.0.1:4567")
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Any:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "data")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_instance_is_refused_with_pid_and_address_of_the_first(
    holder: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    with pytest.raises(AlreadyRunning) as refusal:
        Instance.acquire(tmp_path / "data")

    assert (refusal.value.pid, refusal.value.url) == (holder.pid, "http://127.0.0.1:4567")
    assert str(holder.pid) in refusal.value.message
    assert "http://127.0.0.1:4567" in refusal.value.message


def test_the_lock_is_gone_with_its_process_also_after_kill_9(holder: subprocess.Popen[bytes], tmp_path: Path) -> None:
    assert find_running(tmp_path / "data") is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()

    assert find_running(tmp_path / "data") is None
    with Instance.acquire(tmp_path / "data"):
        assert find_running(tmp_path / "data") is None  # nothing announced yet, and no leftover of the dead one


def test_the_record_is_private_and_complete(tmp_path: Path) -> None:
    with Instance.acquire(tmp_path / "data") as held:
        record = held.announce("http://127.0.0.1:1")
        path = tmp_path / "data" / "instance.json"

        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert json.loads(path.read_text())["pid"] == os.getpid()
        assert find_running(tmp_path / "data") == record
        assert held.token not in repr(record)
    assert not path.exists()


def test_the_data_folder_is_made_private(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    with Instance.acquire(tmp_path / "data"):
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_a_folder_that_holds_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)
    (tmp_path / "home" / "letter.txt").write_text("dear")

    with pytest.raises(StoreError, match="holds other things"):
        Instance.acquire(tmp_path / "home")

    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o755


def test_a_data_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match=r"cannot be used: Not a directory"):
        Instance.acquire(tmp_path / "file" / "data")


def test_releasing_twice_is_harmless_and_lets_the_next_one_in(tmp_path: Path) -> None:
    held = Instance.acquire(tmp_path / "data")
    held.release()
    held.release()

    Instance.acquire(tmp_path / "data").release()


def test_services_must_be_installed_before_they_are_asked_for() -> None:
    services = cast("Any", SimpleNamespace())
    instance.install(None)
    with pytest.raises(ServicesNotInstalled):
        instance.current()

    instance.install(services)
    try:
        assert instance.current() is services
    finally:
        instance.install(None)
