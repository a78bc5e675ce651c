"""How a function of a template is described and called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from app.runtime.templates.go_budget import Budget
from app.runtime.templates.go_values import Value


@dataclass(frozen=True, slots=True)
class Call:
    """What a function is given. `today` is the date that currentDate tells."""

    args: Sequence[Value]
    budget: Budget
    today: date


@dataclass(frozen=True, slots=True)
class Function:
    """Parameter types are "value" (anything, nil kept apart), "any" or "string"; `rest` is that of further ones."""

    run: Callable[[Call], Value]
    parameters: tuple[str, ...] = ()
    rest: str = ""
