"""States of Service > Batch jobs to look at."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from app.services.batches.values import Batch, BatchState, Form, Outcome, Prompt
from app.services.jobs import JobState, JobView
from tests.ui.fake_services import FakeServices

ADDRESS = "/service?view=Batch+jobs"
Q4 = "smollm2:135m-instruct-q4_K_M"
CANCELLED, LONG, WAITING = (f"20261127-0{hour}0000-dddddd" for hour in (4, 5, 6))
RUNNING, FAILED, DONE = "20261127-030000-aaaaaa", "20261126-120000-bbbbbb", "20261125-090000-cccccc"


def batches(services: FakeServices) -> str:
    """One runs, one was stopped by a full disk, one is done with failures; the answers of the first are open."""
    now = time.time()
    table = services.batches.table
    table[DONE] = Batch(
        DONE, "evaluation.jsonl", "local", Form.OPENAI, now - 150_000, 40, (Q4, "qwen3:4b"), BatchState.DONE, 37, 3,
        9_120, 14_400, now - 140_000,
    )  # fmt: skip
    table[FAILED] = Batch(
        FAILED, "a-file-with-quite-a-long-name-that-somebody-exported-from-somewhere.csv", "local", Form.CSV,
        now - 60_000, 12_000, (Q4,), BatchState.FAILED, 4_121, 0, 310_000, 1_204_000, now - 50_000,
        "the disk with Loupe's data folder is full: the batches cannot be kept",
    )  # fmt: skip
    table[RUNNING] = Batch(
        RUNNING, "questions.csv", "local", Form.CSV, now - 900, 500, (Q4,), BatchState.RUNNING, 312, 2, 8_412, 20_310
    )
    services.batches.jobs[RUNNING] = JobView(
        "1", "batch", f"batch {RUNNING}", "Answering questions.csv", JobState.RUNNING, now - 900, 314, 500,
        "312 of 500 answered, 2 failed", pausable=True, eta=241.0,
    )  # fmt: skip
    services.batches.ended = [_ended(314 - number, *told) for number, told in enumerate(_ANSWERS)]
    return f"{ADDRESS}&batch={RUNNING}"


def batches_still(services: FakeServices) -> str:
    """One is paused, one was cancelled, one waits for a host, one is as long as a day."""
    batches(services)
    now, table = time.time(), services.batches.table
    table[CANCELLED] = replace(
        table[RUNNING], id=CANCELLED, name="cancelled.jsonl", state=BatchState.CANCELLED, ended_at=now - 4_000
    )
    table[LONG] = replace(table[RUNNING], id=LONG, name="a-day.jsonl", total=20_000)
    services.batches.jobs[LONG] = replace(services.batches.jobs[RUNNING], key=f"batch {LONG}", eta=27_000.0)
    table[WAITING] = replace(
        table[RUNNING], id=WAITING, name="waits.txt", answered=0, failed=0, prompt_tokens=0, output_tokens=0
    )
    services.batches.jobs[WAITING] = replace(
        services.batches.jobs[RUNNING],
        key=f"batch {WAITING}",
        state=JobState.WAITING,
        detail="no host that has it answers",
        eta=None,
    )
    table[RUNNING] = replace(table[RUNNING], state=BatchState.PAUSED)
    return f"{ADDRESS}&batch={RUNNING}"


def batches_none(services: FakeServices) -> str:
    return ADDRESS


_ANSWERS = (
    ("Why is the sky <blue>?", "Because of <b>Rayleigh</b> scattering: short wavelengths are scattered more. " * 4, ""),
    ("Name three rivers of France.", "The Seine, the Loire and the Rhône.", ""),
    ("Translate: good morning", "", "the model host built-in took longer than 60 s (stall)"),
    ("What is 17 times 23?", "391", ""),
)


def _ended(seq: int, question: str, answer: str, error: str) -> tuple[Prompt, Outcome]:
    body = {"model": Q4, "messages": [{"role": "user", "content": question}]}
    record = {} if error else {"message": {"role": "assistant", "content": answer}, "eval_count": len(answer) // 4 + 1}
    status = 504 if error else 200
    return Prompt(seq, str(seq), "/api/chat", body), Outcome(record, status, error, "built-in", 1.24)  # type: ignore[arg-type]


BATCH_SCENES: dict[str, Callable[[FakeServices], str]] = {
    "batches": batches, "batches_still": batches_still, "batches_none": batches_none,
}  # fmt: skip
