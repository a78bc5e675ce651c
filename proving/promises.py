"""What a promise is, and what its trials tell: counts, samples, figures and broken requirements."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import math
import pkgutil
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from proving import rows
from proving.statistics import quantile

Prove = Callable[["Run"], Awaitable[None] | None]
FULL_LIMIT, SHORT_LIMIT = 3600.0, 120.0  # seconds after which a run counts as hung
WORDS_KEPT = 12  # reasons of failures that are kept


@dataclass(frozen=True, slots=True)
class Promise:
    """One row of the page. `controls` name the defences that are switched off, one at a time."""

    row: int
    text: str
    section: str
    figure: str
    controls: tuple[str, ...]
    prove: Prove
    untested: str = ""
    browser: bool = False
    """Whether it wants a Chromium."""

    @property
    def name(self) -> str:
        return self.prove.__name__.replace("_", "-")


@dataclass(slots=True)
class Run:
    """One run of a promise, which it fills. `off` names the defence that is off; "" where all are on."""

    seed: int
    short: bool
    off: str
    folder: Path
    random: random.Random
    trials: int = 0
    failures: int = 0
    unknowns: int = 0
    why: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    samples: dict[str, list[float]] = field(default_factory=dict)
    figures: dict[str, float | str] = field(default_factory=dict)
    seconds: float = 0.0

    def scale(self, short: int, full: int) -> int:
        """The number for this form; a control always gets the short one."""
        return short if self.short or self.off else full

    def trial(self, ok: bool, why: str = "") -> bool:
        """Count one trial; `why` says what went wrong. Gives `ok` back."""
        self.trials += 1
        if not ok:
            self.failures += 1
            self._say(why or "failed")
        return ok

    def unknown(self, why: str) -> None:
        """A trial whose outcome cannot be told: counted apart, never as a success."""
        self.unknowns += 1
        self._say(f"unknown: {why}")

    def require(self, ok: bool, why: str) -> None:
        """A bound on all trials together, checked at the end."""
        if not ok:
            self.broken.append(why)

    def measure(self, name: str, value: float) -> None:
        """One sample of a series; the name ends with its unit ("hang-up to free slot, s")."""
        self.samples.setdefault(name, []).append(value)

    def figure(self, name: str, value: float | str) -> None:
        """A single result, such as a share or a count."""
        self.figures[name] = value

    def quantile(self, name: str, share: float) -> float:
        """Of a series so far; NaN, which keeps no bound, of one without samples."""
        return quantile(self.samples[name], share) if self.samples.get(name) else math.nan

    @property
    def kept(self) -> bool:
        """Whether the promise was kept in this run."""
        return self.trials > 0 and not (self.failures or self.broken or self.unknowns)

    def _say(self, why: str) -> None:
        if len(self.why) < WORDS_KEPT:
            self.why.append(why)


_promises: dict[int, Promise] = {}


def promise(
    row: int,
    text: str,
    *,
    section: str,
    figure: str,
    controls: Sequence[str],
    untested: str = "",
    browser: bool = False,
) -> Callable[[Prove], Prove]:
    """Register a function as the proof of `row`. `untested` says what of the promise it does not try."""

    def register(prove: Prove) -> Prove:
        if row in _promises or not controls:
            raise ValueError(f"row {row} is registered already, or has no control")
        _promises[row] = Promise(row, text, section, figure, tuple(controls), prove, untested, browser)
        return prove

    return register


def promises() -> tuple[Promise, ...]:
    """All of them, by row."""
    for module in pkgutil.iter_modules(rows.__path__):
        importlib.import_module(f"{rows.__name__}.{module.name}")
    return tuple(_promises[row] for row in sorted(_promises))


def selected(words: Sequence[str]) -> tuple[Promise, ...]:
    """Those that the words name: rows ("8"), ranges ("1-7"), sections or names. Raises `ValueError` for other words."""
    known, chosen = promises(), set()
    for word in filter(None, ",".join(words).split(",")):
        low, _, high = word.partition("-")
        if low.isdecimal() and (high or low).isdecimal():
            found = {one.row for one in known if int(low) <= one.row <= int(high or low)}
        else:
            found = {one.row for one in known if word in (one.section, one.name)}
        if not found:
            sections = ", ".join(sorted({one.section for one in known}))
            numbers = ", ".join(str(one.row) for one in known)
            raise ValueError(f"nothing is promised under {word!r}: rows {numbers}; sections {sections}")
        chosen |= found
    return tuple(one for one in known if one.row in chosen or not words)


def carry_out(what: Promise, *, seed: int, short: bool, off: str = "") -> Run:
    """One run, in an event loop like the product's and a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="prove-", ignore_cleanup_errors=True) as folder:
        run = Run(seed, short, off, Path(folder), random.Random(seed))
        began = time.monotonic()
        if inspect.iscoroutinefunction(what.prove):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_limited(what, run))
        else:
            what.prove(run)
        run.seconds = time.monotonic() - began
    return run


async def _limited(what: Promise, run: Run) -> None:
    waited = what.prove(run)
    if waited is not None:
        async with asyncio.timeout(SHORT_LIMIT if run.short else FULL_LIMIT):
            await waited


@dataclass(frozen=True, slots=True)
class Proof:
    """The run as it is, and one run for each control."""

    promise: Promise
    run: Run
    controls: dict[str, Run]

    def faults(self) -> list[str]:
        """Why the row does not hold; nothing where it does."""
        found = [] if self.run.trials else ["it made no trial"]
        found += [f"{self.run.failures} of {self.run.trials} trials failed"] if self.run.failures else []
        found += [f"{self.run.unknowns} trials ended unknown"] if self.run.unknowns else []
        found += [*self.run.broken, *self.run.why]
        return found + [f"the check also passes with {name}" for name, run in self.controls.items() if run.kept]


def prove(what: Promise, *, seed: int, short: bool) -> Proof:
    """Both parts of a row."""
    run = carry_out(what, seed=seed, short=short)
    controls = {name: carry_out(what, seed=seed, short=short, off=name) for name in what.controls}
    return Proof(what, run, controls)
