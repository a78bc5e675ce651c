"""What is read from a worker's log."""

from __future__ import annotations

import pytest

from app.runtime.worker_log import WorkerLog

MIB = 1 << 20
STARTER = (
    b"0.00.1 I load_tensors:          CPU model buffer size =   136.40 MiB",
    b"0.00.2 I llama_context:        CPU  output buffer size =     0.19 MiB",
    b"0.00.3 I llama_kv_cache:        CPU KV buffer size =    90.00 MiB",
    b"0.00.4 I sched_reserve:        CPU compute buffer size =    18.64 MiB",
)


def fed(*lines: bytes) -> WorkerLog:
    log = WorkerLog()
    for line in lines:
        log.feed(line)
    return log


def test_memory_is_the_sum_of_the_buffers() -> None:
    assert fed().memory == 0
    assert fed(*STARTER).memory == pytest.approx((136.40 + 0.19 + 90 + 18.64) * MIB, abs=8)


def test_the_two_caches_of_a_windowed_model_add_up_and_a_buffer_measured_anew_replaces_itself() -> None:
    windowed = b"0.00.3 I llama_kv_cache:        CPU KV buffer size =   174.00 MiB"
    again = b"0.00.5 I sched_reserve:        CPU compute buffer size =    20.00 MiB"
    assert fed(*STARTER, windowed, again).memory == pytest.approx((136.40 + 0.19 + 264 + 20) * MIB, abs=8)


def test_the_reason_is_the_first_error_and_an_assertion_goes_before_it() -> None:
    failed = (b"0.00.1 E llama_model_load: error loading model: done_getting_tensors", b"0.00.2 E srv  load: failed")
    assert "done_getting_tensors" in fed(*failed).reason
    aborted = fed(*failed, b"/build/ggml.c:12: GGML_ASSERT(n > 0) failed")
    assert aborted.reason == "GGML_ASSERT(n > 0) failed"


def test_the_log_is_bounded_and_counts_what_it_saw() -> None:
    log = fed(*(b"x" * 5000 for _ in range(1000)))
    assert (len(log.tail), max(map(len, log.tail)), log.lines_seen) == (400, 2000, 1000)
