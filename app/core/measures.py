"""Figures about a model and what is recommended from them: what prediction, advice and comparison share.

Standard library only. Seconds, bytes, tokens a second, nats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval. `n` says how many measurements (texts, repetitions) it stands on."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int = 1


@dataclass(frozen=True, slots=True)
class MemoryPoint:
    """Predicted bytes in all for one length of context and one storage type of the cache (f16, q8_0 …)."""

    context: int
    kv_type: str
    predicted: int


@dataclass(frozen=True, slots=True)
class Memory:
    """`predicted` from the file's metadata ± `band`; `measured` and `on_gpu` are what the host reports (`/api/ps`).

    `points` are the predictions for other contexts and cache types, for the question what would fit.
    """

    context: int
    predicted: int | None = None
    band: int | None = None
    measured: int | None = None
    on_gpu: int | None = None
    parts: Mapping[str, int] = field(default_factory=dict)  # weights, kv, state, compute …: predicted bytes
    points: tuple[MemoryPoint, ...] = ()
    notes: tuple[str, ...] = ()  # what is unknown or assumed


class Tier(StrEnum):
    """Conventions calibrated on published tables; `quantization.md` 4.6. In order, the best first."""

    NEAR_LOSSLESS = "near-lossless"
    VERY_CLOSE = "very close"
    CLOSE = "close"
    NOTICEABLE = "noticeable"
    DEGRADED = "degraded"


@dataclass(frozen=True, slots=True)
class Recommendation:
    """`sentence` says it all: variant, figures with interval, the binding constraint. `variant` is "" where nothing can
    be recommended. `binding` is memory, speed, quality or nothing.

    `context` and `kv_type` are what it holds for: not what was asked where only less fits. `instead` names a model of
    another family, of fewer parameters, that fits where nothing of this one does. `license` is a sentence where the
    licence restricts use.
    """

    variant: str
    sentence: str
    binding: str
    tier: Tier | None = None
    runner_up: str = ""
    change: tuple[str, ...] = ()  # what would change the answer, a sentence each
    tied: tuple[str, ...] = ()  # variants that could not be told from it
    typical: bool = False  # rests on published tables, not on a measurement here
    context: int | None = None
    kv_type: str = ""
    instead: str = ""
    license: str = ""
