"""One line of the check of a machine: what was found, what is needed, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Check:
    """`advice` says what a warning costs and how to mend it; "" where there is nothing to do. Never holds a secret."""

    name: str
    status: Verdict
    found: str
    needed: str = ""
    advice: str = ""
