"""What sets our runtime up: what wins, what is kept, and that nobody is left waiting when a start fails."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.core.errors import BadRequest, HostUnreachable
from app.core.hosts import HostAddress, HostState, HostStatus
from app.core.runtime_setup import RuntimeSetup
from app.services.jobs import Jobs, JobState
from app.services.runtime_tuning import RuntimeTuning, setup_of

pytestmark = pytest.mark.anyio


class Runtime:
    """Starts at once; `broken` once does not come back."""

    def __init__(self) -> None:
        self.setups: list[tuple[int, dict[str, str]]] = []
        self.broken = False

    @property
    def address(self) -> HostAddress:
        return HostAddress("embedded", f"http://127.0.0.1:{9000 + len(self.setups)}", embedded=True)

    async def set_up(self, slots: int, limits: Mapping[str, str]) -> None:
        self.setups.append((slots, dict(limits)))

    async def wait_ready(self) -> HostAddress:
        if self.broken:
            raise HostUnreachable("embedded", "it ended")
        return self.address


class Queue:
    def __init__(self) -> None:
        self.paused = self.draining = False
        self.running = 0
        self.told: list[str] = []

    def snapshot(self) -> Any:
        return SimpleNamespace(paused=self.paused, draining=self.draining)

    def pause(self) -> None:
        self.paused = True
        self.told.append("pause")

    def resume(self) -> None:
        self.paused = self.draining = False
        self.told.append("resume")

    def drain(self) -> None:
        self.draining = True

    def activity(self, host: str) -> tuple[int, int]:
        self.running = max(0, self.running - 1)
        return self.running, 1


class Pool:
    def __init__(self, runtime: Runtime | None) -> None:
        self.runtime = runtime

    def statuses(self) -> tuple[HostStatus, ...]:
        there = self.runtime.address if self.runtime else HostAddress("ollama", "http://127.0.0.1:11434")
        return (HostStatus(there, HostState.HEALTHY),)

    def look_again(self) -> None:
        pass


class Stand:
    def __init__(self, file: Path, *, embedded: bool = True, **fixed: str) -> None:
        self.runtime, self.queue, self.jobs = Runtime(), Queue(), Jobs()
        pool = Pool(self.runtime if embedded else None)
        limits = {"OLLAMA_NUM_PARALLEL": "1", "LOUPE_RUNTIME_MEMORY": "6GiB"}
        if "batch" in fixed:
            limits["LOUPE_RUNTIME_BATCH"] = fixed["batch"]
        self.tuning = RuntimeTuning(self.runtime, pool, self.queue, self.jobs, file, fixed, limits)  # type: ignore[arg-type]

    async def applied(self, setup: RuntimeSetup) -> JobState:
        job = self.tuning.apply(setup)
        async for _ in self.jobs.watch():
            if not self.jobs.get(job.id).active:
                return self.jobs.get(job.id).state
        raise AssertionError("unreachable")


async def test_a_setup_is_in_force_after_the_answers_that_run_and_is_kept(tmp_path):
    stand = Stand(tmp_path / "runtime.json")
    await stand.tuning.start()
    stand.queue.running = 3
    assert await stand.applied(RuntimeSetup(slots=4, kv_type="q8_0")) is JobState.DONE
    slots, limits = stand.runtime.setups[-1]
    assert (slots, limits["OLLAMA_NUM_PARALLEL"], limits["OLLAMA_KV_CACHE_TYPE"]) == (4, "4", "q8_0")
    assert limits["LOUPE_RUNTIME_MEMORY"] == "6GiB"  # what the operator set goes with every start
    assert stand.queue.told == ["pause", "resume"]
    assert await stand.applied(RuntimeSetup(threads=2)) is JobState.DONE  # beside what was kept
    assert json.loads((tmp_path / "runtime.json").read_text()) == {"slots": 4, "threads": 2, "kv_type": "q8_0"}

    later = Stand(tmp_path / "runtime.json")
    await later.tuning.start()
    assert later.runtime.setups[0][0] == 4
    assert later.tuning.in_force == RuntimeSetup(slots=4, threads=2, batch=128, kv_type="q8_0")
    assert await later.applied(RuntimeSetup()) is JobState.DONE
    assert later.tuning.kept == RuntimeSetup() and later.runtime.setups[-1][0] == 1


async def test_a_start_that_fails_goes_back_and_the_queue_goes_on(tmp_path):
    stand = Stand(tmp_path / "runtime.json")
    await stand.tuning.start()
    stand.runtime.broken = True
    assert await stand.applied(RuntimeSetup(slots=4)) is JobState.FAILED
    assert [slots for slots, _ in stand.runtime.setups] == [1, 4, 1]
    assert stand.tuning.kept == RuntimeSetup() and not (tmp_path / "runtime.json").exists()
    assert not stand.queue.paused


async def test_a_queue_that_somebody_paused_stays_so(tmp_path):
    stand = Stand(tmp_path / "runtime.json")
    stand.queue.paused = True
    assert await stand.applied(RuntimeSetup(slots=2)) is JobState.DONE
    assert stand.queue.paused


async def test_what_the_operator_set_wins_and_is_not_changed_from_here(tmp_path):
    (tmp_path / "runtime.json").write_text(json.dumps({"slots": 4, "batch": 256, "flash": True}))
    stand = Stand(tmp_path / "runtime.json", slots="2", batch="64")
    await stand.tuning.start()
    slots, limits = stand.runtime.setups[0]
    assert (slots, limits["LOUPE_RUNTIME_BATCH"], limits["OLLAMA_FLASH_ATTENTION"]) == (2, "64", "1")
    assert stand.tuning.in_force == RuntimeSetup(slots=2, batch=64, flash=True, kv_type="f16")
    with pytest.raises(BadRequest, match="LOUPE_SLOTS=2 was set where Loupe was started"):
        stand.tuning.apply(RuntimeSetup(slots=8))


async def test_other_hosts_are_set_up_where_they_were_started(tmp_path):
    with pytest.raises(BadRequest, match="where they were started"):
        Stand(tmp_path / "runtime.json", embedded=False).tuning.apply(RuntimeSetup(slots=2))


@pytest.mark.parametrize("content", ["{", '{"slots": "four"}', '{"slots": 4000}', '{"colour": "red"}', "[1]"])
async def test_what_was_kept_and_cannot_be_used_is_left_out(content, tmp_path):
    (tmp_path / "runtime.json").write_text(content)
    stand = Stand(tmp_path / "runtime.json")
    await stand.tuning.start()
    assert stand.tuning.kept == RuntimeSetup() and stand.runtime.setups[0][0] == 1


@pytest.mark.parametrize(
    ("told", "wrong"),
    [
        ({"slots": True}, "slots is a whole number"),
        ({"flash": 1}, "flash is true or false"),
        ({"nope": 1}, "unknown: nope"),
    ],
)
def test_a_setup_from_outside_names_what_is_wrong(told, wrong):
    with pytest.raises(BadRequest, match=wrong):
        setup_of(told)
