"""A load run as it is kept: what was asked for, on what, its figures, and every request. A folder for each in the data
folder. Everything in the store blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from app.comparison.folder_store import FolderStore
from app.comparison.load_lab.figures import LoadFigures
from app.comparison.load_lab.generator import Outcome
from app.comparison.load_lab.plan import LoadPlan
from app.comparison.result_json import Unreadable, from_json, to_json
from app.comparison.results import Environment
from app.core.errors import LoupeError
from app.core.generation import Json
from app.services.line_file import read_lines
from app.services.small_file import read_small

log = structlog.get_logger(__name__)
KEPT = 100  # runs; the oldest go
RUNNING, DONE, CANCELLED, STOPPED, FAILED, INTERRUPTED = (
    "running", "done", "cancelled", "stopped", "failed", "interrupted",
)  # fmt: skip


class LoadRunNotFound(LoupeError):
    status = 404
    code = "load_run_not_found"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"there is no load run {run_id[:32]}, or it was deleted")


class HostInUse(LoupeError):
    """Others would feel the load."""

    status = 409
    code = "host_in_use"

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}; wait until it is quiet, or say that it is to be loaded all the same (anyway)")
        self.why = why


@dataclass(frozen=True, slots=True)
class LoadRun:
    """`state` is running, done, cancelled (by a person), stopped (somebody came), failed or interrupted (Loupe ended).

    `plan` is kept without its questions and its recording: `requests` says how many there were, the rows what became
    of them. `loads` are the seconds that warming up took, by model; `digests` says which files answered, `why` what
    ended it, where that was not its own end.
    """

    id: str
    plan: LoadPlan
    environment: Environment
    state: str
    started_at: float
    requests: int
    ended_at: float | None = None
    own: int = 0  # questions of one's own that were asked in turn
    digests: Mapping[str, str] = field(default_factory=dict)
    loads: Mapping[str, float] = field(default_factory=dict)
    figures: LoadFigures = field(default_factory=LoadFigures)
    why: str = ""

    @property
    def title(self) -> str:
        return " + ".join(self.plan.models)


class LoadStore:
    """`folder` is made when something is written. Raises `StoreError`, or `DiskFull`, where that is not possible."""

    def __init__(self, folder: Path) -> None:
        self._kept = FolderStore(folder, "the load run", LoadRunNotFound)

    def runs(self) -> list[LoadRun]:
        """All that can be read, the newest first."""
        found = []
        for file in self._kept.root.glob("*/run.json"):
            try:
                found.append(from_json(LoadRun, read_small(file)))
            except Unreadable:
                log.warning("a load run cannot be read", file=str(file))
        return sorted(found, key=lambda run: run.started_at, reverse=True)

    def write(self, run: LoadRun) -> None:
        self._kept.write(run.id, "run.json", to_json(run))

    def append(self, run_id: str, outcomes: Iterable[Outcome]) -> None:
        self._kept.append(self._kept.of(run_id) / "rows.jsonl", map(to_json, outcomes))

    def rows(self, run_id: str) -> list[Json]:
        """Every request: the fields of `Outcome`."""
        return read_lines(self._kept.of(run_id) / "rows.jsonl")

    def delete(self, run_id: str) -> None:
        self._kept.delete(run_id)
