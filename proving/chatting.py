"""Loupe as `python -m app serve` runs it, with people in it who chat as its pages do: to be killed or stopped.

Each is a process, forked from one that has imported everything, so that it is there in a fraction of a second. What
its people were told goes to a file, a line at a time, before they go on: `{"asked": …}` once a question was taken,
`{"answered": …}` once its answer was said to be finished. What a process has written to a file survives its kill -9.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app import instance
from proving.stand import until

START_SECONDS = 120.0
FORKS = multiprocessing.get_context("forkserver")
COMMITS_LATER = "questions acknowledged before they are committed"
ENDS_AT_ONCE = "the first signal ends the server at once"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a process does. `off` names the defence that it is to be without."""

    data: Path
    hosts: str
    told: Path
    number: int
    people: int = 4
    drain: float = 30.0
    off: str = ""


class Chatting:
    """One process. `url` is there once the first question was taken."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._process = FORKS.Process(target=_serve, args=(plan,), daemon=True)
        self._told_before = _size(plan.told)
        self._process.start()
        self.pid = int(self._process.pid or 0)

    async def first_question(self) -> None:
        """Wait until one was taken, or the process is gone."""
        await until(lambda: self.ended or _size(self.plan.told) > self._told_before, START_SECONDS, "a first question")

    @property
    def url(self) -> str:
        found = instance.find_running(self.plan.data)
        return found.url if found is not None and found.pid == self.pid else ""

    @property
    def ended(self) -> bool:
        return not self._process.is_alive()

    @property
    def status(self) -> int | None:
        """Its exit status, negative where a signal ended it."""
        return self._process.exitcode

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def join(self, seconds: float = 30.0) -> None:
        """Wait until it is gone. Raises `TimeoutError`."""
        self._process.join(seconds)
        if not self.ended:
            raise TimeoutError(f"process {self.pid} is still there after {seconds:g} s")

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()


@contextlib.contextmanager
def chatting(plan: Plan) -> Iterator[Chatting]:
    FORKS.set_forkserver_preload(["proving.chatting_process"])
    one = Chatting(plan)
    try:
        yield one
    finally:
        one.close()


def told(path: Path) -> tuple[list[str], list[str]]:
    """The questions that were taken, and those of them whose answers were said to be finished."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    asked = [line["asked"] for line in lines if "asked" in line]
    return asked, [line["answered"] for line in lines if "answered" in line]


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _serve(plan: Plan) -> None:
    from proving.chatting_process import run  # in the process itself: who starts it need not import all of the product

    run(plan)
