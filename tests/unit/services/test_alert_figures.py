"""What alert rules look at: figures that mean something, or none."""

from __future__ import annotations

import pytest

from app.core.generation import Usage
from app.core.hardware import Gpu, Gpus, HardwareState, Machine
from app.services.alerting.baselines import BLOCK, BLOCK_SECONDS, KEPT, RECENT, Baselines, company_of
from app.services.alerting.figures import clients_faults, of_machine, of_requests
from app.services.request_trace import CacheDecision, FinishedRequest
from tests.unit.services.test_request_log import record

GIB = 1 << 30


def answers(*ttfts: float, **fields: object) -> list[FinishedRequest]:
    return [record(ttft=ttft, **fields) for ttft in ttfts]


def test_a_percentile_is_one_of_the_waits_and_needs_enough_of_them():
    firsts = [0.1 * number for number in range(1, 21)]
    assert of_requests(answers(*firsts))["ttft_p95_5min"] == {"": pytest.approx(1.905)}
    assert "ttft_p95_5min" not in of_requests(answers(*firsts[:9]))


def test_answers_of_the_cache_say_nothing_of_the_speed():
    cached = answers(*[0.001] * 30, cache=CacheDecision("hit"))
    assert "ttft_p95_5min" not in of_requests(cached)


def test_errors_are_those_of_our_side():
    fine = answers(*[0.1] * 8)
    failed = [record(status=status, ttft=None) for status in ("host_unreachable", "internal", "host_refused")]
    theirs = [record(status=status, ttft=None) for status in ("cancelled", "bad_request", "model_not_found")] * 9
    assert of_requests(fine + failed + theirs)["failure_rate_5min"] == {"": pytest.approx(3 / 11)}
    assert "failure_rate_5min" not in of_requests(fine + theirs)
    assert not clients_faults() & {"queue_full", "internal", "no_healthy_host", "generation_failed", "host_error"}


def test_a_machine_is_told_in_shares_and_a_gpu_with_its_number():
    machine = Machine(
        cpu=0.5, memory_used=9 * GIB, memory_total=12 * GIB, swap_used=0, swap_total=0, disk_free=GIB,
        disk_total=4 * GIB,
    )  # fmt: skip
    hot = Gpu(0, temperature=90, memory_used=3 * GIB, memory_total=4 * GIB, throttled=("temperature",))
    capped = Gpu(1, throttled=("power limit",))
    found = of_machine(HardwareState(1, 0.0, machine, Gpus((hot, capped, Gpu(2, lost="gone")))))
    assert found["memory_share"] == {"": 0.75} and found["disk_free_share"] == {"": 0.25} and found["cpu"] == {"": 0.5}
    assert "swap_share" not in found  # there is none
    assert found["gpu.temperature"] == {"GPU 0": 90.0} and found["gpu.memory_share"] == {"GPU 0": 0.75}
    assert found["gpu.throttled"] == {"GPU 0": 1.0, "GPU 1": 0.0}  # a power limit is a choice
    assert found["gpu.lost"] == {"GPU 0": 0.0, "GPU 1": 0.0, "GPU 2": 1.0}


def spoken(ended: float, speed: float, model: str = "m", **fields: object) -> FinishedRequest:
    usage = Usage(output_tokens=100, decode_ns=int(100 / speed * 1e9))
    return record(started_at=ended - 1, seconds=1.0, usage=usage, model=model, host="h", **fields)


def learn(baselines: Baselines, speed: float, begins: float, blocks: int, company: int = 0) -> float:
    """So many whole blocks of that speed; when the last answer ended."""
    step = BLOCK_SECONDS / (BLOCK - 1)
    for _ in range(blocks * BLOCK):
        begins += step
        baselines.add(spoken(begins, speed), company)
    return begins


def test_a_variant_is_compared_with_what_it_usually_does_once_that_is_known():
    baselines = Baselines()
    now = learn(baselines, 40.0, 1e9, 2)
    assert baselines.shares(now) == {}  # too little is known
    now = learn(baselines, 40.0, now, 2)
    assert baselines.shares(now) == {"m on h": pytest.approx(1.0)}
    for number in range(RECENT):
        baselines.add(spoken(now + number, 20.0), 0)
    assert baselines.shares(now + RECENT) == {"m on h": pytest.approx(0.5)}
    assert baselines.shares(now + 3600) == {}  # that says nothing of now


def test_answers_that_shared_their_host_are_compared_with_such():
    baselines = Baselines()
    now = learn(baselines, 40.0, 1e9, 4)
    now = learn(baselines, 12.0, now, 4, company=3)
    assert baselines.shares(now) == {"m on h": pytest.approx(1.0)}
    alone = spoken(now, 12.0)
    around = [spoken(now + 0.5, 9.0), spoken(now + 5, 9.0), record(started_at=now - 1, seconds=1.0, host="other")]
    assert company_of(alone, [alone, *around]) == 1


def test_what_is_usual_is_kept_and_what_means_little_is_not_learned():
    baselines = Baselines()
    now = learn(baselines, 40.0, 1e9, 4)
    again = Baselines()
    again.restore(baselines.kept())
    again.restore([["x"], None, ["n", "h", 0, ["y", -1]]])
    for number in range(RECENT):
        again.add(spoken(now + number, 30.0), 0)
    assert again.shares(now + RECENT)["m on h"] == pytest.approx(0.75)
    short = record(usage=Usage(output_tokens=3, decode_ns=10**9))
    assert not Baselines().add(short, 0) and not Baselines().add(spoken(1.0, 5.0, status="cancelled"), 0)


def test_only_so_many_variants_are_remembered():
    baselines = Baselines()
    for number in range(KEPT + 20):
        baselines.add(spoken(1e9, 5.0, model=f"m{number}"), 0)
    assert len(baselines._paces) == KEPT
