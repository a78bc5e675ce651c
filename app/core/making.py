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


STARTER_MODEL = "smollm2:135m-instruct"
STARTER_REFERENCE = f"{STARTER_MODEL}-fp16"
# In the order in which they are made: the one that answers first, then from the most bits to the fewest.
STARTER_FAMILY = (
    STARTER_REFERENCE,
    *(f"{STARTER_MODEL}-{label}" for label in ("q8_0", "q6_K", "q5_K_M", "q4_K_M", "q4_0", "q3_K_M", "q2_K")),
)
# Said wherever the family is shown: a person must not take these figures for those of a true 16-bit original.
STARTER_PROVENANCE = (
    "SmolLM2-135M-Instruct (Apache-2.0). The 16-bit reference was unpacked from a published 4-bit file (Q4_1), so the "
    "4-bit variants look better against it than they would against the true original."
)


@dataclass(frozen=True, slots=True)
class QuantizedFile:
    """A model file that was made: digest in bare hex, size in bytes."""

    sha256: str
    size: int
