"""How fast each variant usually writes on each host, learned from its own answers: what "slower than it was" goes by.

Compared is like with like: answers that had as much company on their host. Usual is the median over blocks of some
minutes, so that a slow hour does not become the norm and a slow day of work does.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

from app.core.generation import Json
from app.services.request_trace import FinishedRequest

TOKENS = 16  # of an answer, at least: the speed of a shorter one means little
RECENT, RECENT_SECONDS = 5, 900.0  # answers that speak for now, and how old the newest may be
BLOCK, BLOCK_SECONDS = 10, 600.0  # answers of a block at least, and how long it takes at least
BLOCKS, ENOUGH = 144, 3  # blocks that are kept, and from how many on they say what is usual
KEPT = 50  # pairs of variant and host
Key = tuple[str, str, int]


@dataclass(slots=True)
class _Pace:
    """Tokens/s. `filling` is the block that is not over, since `began` (epoch)."""

    blocks: deque[float] = field(default_factory=lambda: deque(maxlen=BLOCKS))
    filling: list[float] = field(default_factory=list)
    began: float = 0.0
    recent: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=RECENT))

    def add(self, ended: float, speed: float) -> bool:
        """Whether a block is full by this."""
        self.recent.append((ended, speed))
        if not self.filling:
            self.began = ended
        self.filling.append(speed)
        if len(self.filling) < BLOCK or abs(ended - self.began) < BLOCK_SECONDS:
            return False
        self.blocks.append(median(self.filling))
        self.filling = []
        return True

    def share(self, now: float) -> float | None:
        """Of the usual speed; None where too little is known of either."""
        if len(self.blocks) < ENOUGH or len(self.recent) < RECENT or abs(now - self.recent[-1][0]) > RECENT_SECONDS:
            return None
        return median(speed for _, speed in self.recent) / median(self.blocks)


class Baselines:
    """Belongs to the event loop."""

    def __init__(self) -> None:
        self._paces: OrderedDict[Key, _Pace] = OrderedDict()

    def add(self, record: FinishedRequest, company: int) -> bool:
        """Learn from an answer that shared its host with so many others. Whether what is worth keeping has grown."""
        usage = record.usage
        if not record.measured or usage is None or usage.output_tokens < TOKENS or usage.decode_ns <= 0:
            return False
        key = (record.model, record.host, company.bit_length())
        pace = self._paces.setdefault(key, _Pace())
        self._paces.move_to_end(key)
        while len(self._paces) > KEPT:
            self._paces.popitem(last=False)
        return pace.add(record.started_at + record.seconds, usage.output_tokens / (usage.decode_ns / 1e9))

    def shares(self, now: float) -> dict[str, float]:
        """By "variant on host", where it is known: the share of its own usual speed. `now` since the epoch."""
        newest: dict[str, tuple[float, float]] = {}
        for (model, host, _), pace in self._paces.items():
            share = pace.share(now)
            if share is not None:
                subject, when = f"{model} on {host}", pace.recent[-1][0]
                newest[subject] = max(newest.get(subject, (when, share)), (when, share))
        return {subject: share for subject, (_, share) in newest.items()}

    def kept(self) -> list[Json]:
        return [[*key, list(pace.blocks)] for key, pace in self._paces.items() if pace.blocks]

    def restore(self, kept: Json) -> None:
        """What was kept; anything else is ignored."""
        for row in kept if isinstance(kept, list) else ():
            match row:
                case [str(model), str(host), int(company), list(blocks)] if len(self._paces) < KEPT:
                    speeds = [float(speed) for speed in blocks if isinstance(speed, int | float) and speed > 0]
                    self._paces[model, host, company] = _Pace(blocks=deque(speeds, maxlen=BLOCKS))


def company_of(record: FinishedRequest, others: Iterable[FinishedRequest]) -> int:
    """How many other answers of the same host overlapped it."""
    begun, ended = record.started_at, record.started_at + record.seconds
    return sum(
        other.host == record.host and other.id != record.id
        and other.started_at < ended and other.started_at + other.seconds > begun
        for other in others
    )  # fmt: skip


def as_figures(shares: Mapping[str, float]) -> dict[str, dict[str, float]]:
    return {"speed_share": dict(shares)} if shares else {}
