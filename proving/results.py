"""Results as files: build/prove/N.json of the last run, docs/reliability/N.json of the one that the page shows."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.harness import commit, machine
from proving.promises import Promise, Proof, Run
from proving.statistics import quantile, upper_bound

ROOT = Path(__file__).parents[1]
BUILT = ROOT / "build" / "prove"
PUBLISHED = ROOT / "docs" / "reliability"
LIBRARIES = ("streamlit", "starlette", "uvicorn", "uvloop", "httptools", "aiohttp", "diskcache", "xllamacpp")
DIGITS = 4  # significant, of every figure

Result = dict[str, Any]


def result_of(proof: Proof, *, seed: int, command: str, began: datetime) -> Result:
    """The run as JSON; two runs of the same seed differ in times and dates alone."""
    what, run = proof.promise, proof.run
    faults = proof.faults()
    return {
        "row": what.row,
        **described(what),
        "command": command,
        "form": "short" if run.short else "full",
        "kept": not faults,
        "faults": faults,
        "n": run.trials,
        "failures": run.failures,
        "unknown": run.unknowns,
        "upper_bound_95": _rounded(upper_bound(run.failures, run.trials)) if run.trials else None,
        "measures": {name: _summary(values) for name, values in run.samples.items()},
        "figures": {name: _rounded(value) for name, value in run.figures.items()},
        "controls": [_control(name, control) for name, control in proof.controls.items()],
        "seconds": _rounded(run.seconds),
        "seed": seed,
        "commit": commit(),
        "date": began.astimezone(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "libraries": {name: version(name) for name in LIBRARIES if _installed(name)},
    }


def described(what: Promise) -> Result:
    """The words of a promise, which a result carries so that page and code can be compared."""
    return {
        "promise": what.text,
        "figure": what.figure,
        "section": what.section,
        "untested": what.untested,
    }


def _control(name: str, run: Run) -> Result:
    return {
        "off": name,
        "failed": not run.kept,
        "n": run.trials,
        "failures": run.failures,
        "broken": [*run.broken, *run.why][:4],
    }


def _summary(values: list[float]) -> Result:
    figures = {"p50": quantile(values, 0.5), "p99": quantile(values, 0.99), "max": max(values)}
    return {"n": len(values), **{name: _rounded(value) for name, value in figures.items()}}


def _rounded(value: float | str) -> float | str:
    return value if isinstance(value, str | int) else float(f"{value:.{DIGITS}g}")


def _installed(name: str) -> bool:
    try:
        version(name)
    except ModuleNotFoundError:
        return False
    return True


def write(folder: Path, result: Result) -> Path:
    """One file for a row."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result['row']}.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read(folder: Path = PUBLISHED) -> dict[int, Result]:
    """Every result in the folder, by row."""
    found = (json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json"))
    return {result["row"]: result for result in sorted(found, key=lambda result: int(result["row"]))}
