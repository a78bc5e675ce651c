"""Values of making model variants (download, dequantise, quantise). Standard library only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MakingProgress:
    """One step of the starter's making.

    `phase` is one of download, verify, dequantise, quantise, install, done. `variant` is the full model name the
    step works on, or "". `completed` and `total` are bytes; total 0 means unknown.
    """

    phase: str
    variant: str = ""
    completed: int = 0
    total: int = 0
    message: str = ""

    @property
    def fraction(self) -> float | None:
        return min(1.0, self.completed / self.total) if self.total else None
