"""What a comparison has measured so far, as it is kept on disk: samples and raw rows, no figures yet."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.comparison.forcing import TextRows
from app.comparison.probes import Plan
from app.comparison.results import DepthSpeed, ProbeText
from app.comparison.speed import SpeedSamples
from app.comparison.tasks import TaskOutcome

CONTROL = "control"  # the name under which the reference's second rows are kept


@dataclass(slots=True)
class Measured:
    """Of one variant. `pangram` counts the tokens of one fixed text; `context`, `size` and `on_gpu` are what the host
    reports of it once it is loaded."""

    samples: SpeedSamples = field(default_factory=SpeedSamples)
    pangram: int | None = None
    context: int | None = None
    size: int | None = None
    on_gpu: int | None = None
    depths: tuple[DepthSpeed, ...] = ()
    sustained: float | None = None


@dataclass(slots=True)
class Progress:
    """`done` are the keys of finished steps, `seconds` the time spent at measuring, `resumed` how often it was gone on
    with after the process had ended. By digest."""

    done: tuple[str, ...] = ()
    variants: dict[str, Measured] = field(default_factory=dict)
    texts: tuple[ProbeText, ...] = ()
    plan: Plan | None = None
    seconds: float = 0.0
    resumed: int = 0
    too_long: int = 0  # questions that were left out because they do not fit the context
    bandwidth: float | None = None  # bytes/s that memory was read with; None for another machine, or a busy one
    bandwidth_sure: bool = False  # measured before and after, while nothing else ran

    def of(self, digest: str) -> Measured:
        return self.variants.setdefault(digest, Measured())


@dataclass(slots=True)
class Raw:
    """Rows by digest, and those of the control; outcomes of tasks by digest."""

    rows: dict[str, list[TextRows]] = field(default_factory=dict)
    outcomes: dict[str, list[TaskOutcome]] = field(default_factory=dict)

    def of(self, digest: str) -> list[TextRows]:
        return self.rows.setdefault(digest, [])
