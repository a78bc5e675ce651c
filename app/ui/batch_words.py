"""What the page says of batch jobs. Pure: values in, words out."""

from __future__ import annotations

from app.services.batches.values import Batch, BatchState, Outcome
from app.services.jobs import JobState, JobView
from app.ui import view_models as vm

FORMS = (
    "A prompt on every line, JSON lines with a prompt or messages, a CSV table with a column named prompt, or OpenAI's "
    "batch format. What else stands on a line comes back with its answer."
)
MANNERS = (
    "People who chat go first: while they ask, a batch gets one turn in ten, and a long answer of it gives way. It "
    "goes on by itself after a restart, and no prompt is answered twice."
)
NONE = "No batch yet. Choose a file, and its answers come here one by one."
SHORT = 160  # characters of a question or an answer in a list
_STATES = {
    BatchState.PAUSED: "paused", BatchState.DONE: "done", BatchState.CANCELLED: "cancelled",
    BatchState.FAILED: "stopped",
}  # fmt: skip


def counted(batch: Batch) -> str:
    """312 of 500 answered, 2 failed."""
    failed = f", {vm.grouped(batch.failed)} failed" if batch.failed else ""
    return f"{vm.grouped(batch.answered)} of {vm.grouped(batch.total)} answered{failed}"


def standing(batch: Batch, job: JobView | None, now: float) -> str:
    """What it is doing, and how long yet; of one that has ended, since when."""
    if batch.state is BatchState.FAILED:
        return f"stopped: {batch.error}"
    if not batch.active:
        since = f" {vm.ago(now - batch.ended_at)}" if batch.ended_at else ""
        return f"{_STATES[batch.state]}{since}"
    if batch.state is BatchState.PAUSED:
        return "paused"
    if job is not None and job.state is JobState.WAITING:
        return job.detail
    return f"{vm.about(job.eta)} left" if job is not None and job.eta is not None and job.eta >= 1 else "running"


def facts(batch: Batch) -> str:
    """Which models, and what it took so far."""
    models = batch.models[0] if len(batch.models) == 1 else f"{len(batch.models)} models"
    tokens = f"{vm.count(batch.prompt_tokens, 'token')} read, {vm.count(batch.output_tokens, 'token')} written"
    return " · ".join((models, tokens) if batch.prompt_tokens or batch.output_tokens else (models,))


def share(batch: Batch) -> float:
    """From 0 to 1."""
    return (batch.answered + batch.failed) / batch.total if batch.total else 0.0


def short(text: str) -> str:
    """On one line, and not too long."""
    line = " ".join(text.split())
    return line if len(line) <= SHORT else f"{line[: SHORT - 1]}…"


def ended_as(outcome: Outcome) -> str:
    """What an answer took: 1.24 s, 31 tokens."""
    parts = [vm.duration(outcome.seconds), vm.count(outcome.output_tokens, "token") if outcome.output_tokens else ""]
    return " · ".join([*filter(None, parts), *(["from the cache"] if outcome.cached else [])])


def deleting(batch: Batch) -> str:
    """What a delete loses."""
    kept = f"{vm.count(batch.answered, 'answer')} {'is' if batch.answered == 1 else 'are'} deleted for good"
    left = f", and {vm.count(batch.left, 'prompt')} {'is' if batch.left == 1 else 'are'} not asked"
    return f"Its {kept}{left if batch.active else ''}. The file that you sent stays where it is."
