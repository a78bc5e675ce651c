"""What every benchmark stands on: interleaved rounds, robust summaries, and a report that says where it was made.

    samples = interleave({"stock": measure_stock, "Loupe": measure_loupe}, rounds=10)
    report = Report("first_token", "Enter to first token", rounds=10)
    report.compare("A short answer", METRICS, samples, baseline="stock")
    report.finish()

A measure function returns figures by metric name; one call is one round of one subject. Rounds alternate their order
(A B, B A, …), so that what drifts on the machine meets all subjects alike, and a ratio is formed within each round.
Nothing here or in any benchmark asserts a time: machines differ, and figures are for reading.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "build" / "bench"
CONFIDENCE = 0.95
DASH = "–"

Figures = Mapping[str, float]
Samples = dict[str, list[Figures]]


@dataclass(frozen=True, slots=True)
class Summary:
    """n values: their median and quartiles, and an interval for the median that holds with 95 %, where n allows one.

    The interval takes order statistics (the sign test turned round), so it supposes no distribution. Below six values
    no such interval exists: `low` and `high` are None.
    """

    n: int
    median: float
    q1: float
    q3: float
    low: float | None
    high: float | None


def summarise(values: Sequence[float]) -> Summary:
    """Summary of at least one value. Quartiles are linear between order statistics, as spreadsheets have them."""
    ordered = sorted(values)
    q1, middle, q3 = (_quantile(ordered, share) for share in (0.25, 0.5, 0.75))
    cut = _cut(len(ordered))
    low, high = (ordered[cut], ordered[-1 - cut]) if cut is not None else (None, None)
    return Summary(len(ordered), middle, q1, q3, low, high)


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _cut(n: int) -> int | None:
    """How many values to leave out at each end, so that what is left covers the median with 95 %; None if none may."""
    missed, cut = 0.0, None
    for k in range(n // 2):
        missed += 2 * math.comb(n, k) / 2**n
        if missed > 1 - CONFIDENCE:
            break
        cut = k
    return cut


def interleave(
    subjects: Mapping[str, Callable[[], Figures]], *, rounds: int, warm_up: int = 1, progress: bool = True
) -> Samples:
    """Measure every subject `rounds` times, in alternating order; the first `warm_up` rounds are thrown away."""
    samples: Samples = {name: [] for name in subjects}
    for number in range(-warm_up, rounds):
        order = list(subjects) if number % 2 == 0 else list(subjects)[::-1]
        for name in order:
            figures = subjects[name]()
            if number >= 0:
                samples[name].append(figures)
        if progress:
            print(f"\r{max(number + 1, 0)}/{rounds} rounds", end="", file=sys.stderr, flush=True)
    if progress:
        print(file=sys.stderr)
    return samples


def values(samples: Samples, subject: str, metric: str) -> list[float]:
    return [figures[metric] for figures in samples[subject] if metric in figures]


def ratios(samples: Samples, subject: str, baseline: str, metric: str) -> list[float]:
    """Subject over baseline, round by round; empty where one of them has no such figure."""
    return [one / other for one, other in _pairs(samples, subject, baseline, metric) if other]


def differences(samples: Samples, subject: str, baseline: str, metric: str) -> list[float]:
    """Subject minus baseline, round by round; empty where one of them has no such figure."""
    return [one - other for one, other in _pairs(samples, subject, baseline, metric)]


def _pairs(samples: Samples, subject: str, baseline: str, metric: str) -> list[tuple[float, float]]:
    rounds = zip(samples[subject], samples[baseline], strict=True)
    return [(one[metric], other[metric]) for one, other in rounds if metric in one and metric in other]


@dataclass(frozen=True, slots=True)
class Metric:
    """A row of a table. `name` is the key in the figures; `digits` those behind the point."""

    name: str
    label: str
    unit: str = "ms"
    digits: int = 1


class Report:
    """Collects tables; `finish` prints them in Markdown and writes them, with every raw figure, to build/bench."""

    def __init__(self, name: str, title: str) -> None:
        self.name, self.title = name, title
        self._began = datetime.now(UTC)
        self._machine = machine()
        self._lines: list[str] = []
        self._tables: list[dict[str, object]] = []

    def compare(
        self, caption: str, metrics: Sequence[Metric], samples: Samples, *, baseline: str | None = None,
        difference: bool = False,
    ) -> None:  # fmt: skip
        """One row a metric, one column a subject; against a baseline, columns of ratios and, if asked, differences."""
        others = [name for name in samples if baseline and name != baseline]
        heads = ["", *samples]
        rows = [
            [f"{m.label}, {m.unit}", *(_cell(values(samples, name, m.name), m.digits) for name in samples)]
            for m in metrics
        ]
        for name in others if difference else ():
            heads.append(f"{name} − {baseline}")
            for row, m in zip(rows, metrics, strict=True):
                row.append(_interval(differences(samples, name, str(baseline), m.name), m.digits))
        for name in others:
            heads.append(f"{name} / {baseline}")
            for row, m in zip(rows, metrics, strict=True):
                row.append(_interval(ratios(samples, name, str(baseline), m.name), None))
        rounds = max(len(figures) for figures in samples.values())
        self._lines += [f"### {caption}", "", *markdown(heads, rows), "", f"n = {rounds} rounds.", ""]
        self._tables.append(
            {"caption": caption, "n": rounds, "samples": samples, "summary": _summaries(metrics, samples)}
        )

    def table(self, caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Cells that are made already."""
        self._lines += [f"### {caption}", "", *markdown(heads, rows), ""]
        self._tables.append({"caption": caption, "heads": list(heads), "rows": [list(row) for row in rows]})

    def say(self, sentence: str) -> None:
        """A remark under the last table, one paragraph."""
        self._lines += [sentence, ""]

    def finish(self) -> Path:
        """Print, write `build/bench/NAME.json`, and return its path."""
        about = {
            "name": self.name, "date": self._began.isoformat(timespec="seconds"), "command": command(),
            "commit": commit(), "machine": {**self._machine, "load_after": load()},
        }  # fmt: skip
        where = self._machine
        print(f"## {self.title}\n")
        print(
            f"{self._began:%Y-%m-%d %H:%M} UTC, commit {about['commit']}, `{about['command']}`. {where['processor']}, "
            f"{where['cores']} cores, {where['memory_gb']} GB, {where['system']}, Python {where['python']}; load "
            f"{where['load']} before, {load()} after. Cells: median (lower–upper quartile); ratios and differences: "
            "median of those within a round [95 % interval of that median].\n"
        )
        print("\n".join(self._lines))
        TARGET.mkdir(parents=True, exist_ok=True)
        path = TARGET / f"{self.name}.json"
        path.write_text(json.dumps({**about, "tables": self._tables, "remarks": self._lines}, indent=1) + "\n")
        return path


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table, its columns padded so that it also reads as plain text."""
    widths = [max(3, *(len(row[column]) for row in [heads, *rows])) for column in range(len(heads))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [heads, *rows]]
    rule = " | ".join(("-" * (width - 1) + (":" if column else "-")) for column, width in enumerate(widths))
    return [f"| {line} |" for line in [lines[0], rule, *lines[1:]]]


def _summaries(metrics: Sequence[Metric], samples: Samples) -> dict[str, dict[str, object]]:
    return {
        name: {m.name: asdict(summarise(found)) for m in metrics if (found := values(samples, name, m.name))}
        for name in samples
    }


def _cell(found: Sequence[float], digits: int) -> str:
    """Median (lower–upper quartile)."""
    if not found:
        return DASH
    told = summarise(found)
    return f"{told.median:.{digits}f}" + (f" ({told.q1:.{digits}f}–{told.q3:.{digits}f})" if told.n > 1 else "")


def _interval(found: Sequence[float], digits: int | None) -> str:
    """Median [95 % interval]; ratios (`digits` None) with two or three places."""
    if not found:
        return DASH
    told = summarise(found)

    def tell(value: float) -> str:
        return _short(value) if digits is None else f"{value:.{digits}f}"

    return tell(told.median) + (
        "" if told.low is None or told.high is None else f" [{tell(told.low)} to {tell(told.high)}]"
    )


def _short(value: float) -> str:
    return f"{value:.2f}" if value >= 0.095 else f"{value:.3f}"


def machine() -> dict[str, object]:
    """What the figures depend on. No names of hosts or users."""
    import psutil

    return {
        "processor": _processor(), "cores": os.cpu_count(), "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.machine()}", "python": platform.python_version(), "load": load(),
    }  # fmt: skip


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def load() -> str:
    """The load average of the last minute: what else the machine was doing."""
    return f"{os.getloadavg()[0]:.1f}"


def commit() -> str:
    """The commit of this checkout, with a mark where tracked files of the product differ from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = " with changes in app/" if git("status", "--short", "-uno", "app") else ""
    return (git("rev-parse", "--short", "HEAD") or "unknown") + changed


def command() -> str:
    """How to make these figures again."""
    module = Path(sys.argv[0]).stem
    return " ".join(["python -m", f"benchmarks.{module}", *map(shlex.quote, sys.argv[1:])])
