"""docs/reliability.md, made from the results in docs/reliability: a table with one row for each promise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.harness import DASH
from proving.promises import Promise
from proving.results import ROOT, Result

PAGE = ROOT / "docs" / "reliability.md"
HEADS = ("row", "promise", "trials", "failures", "p50 / p99 / max", "95 % upper bound", "negative control", "date")
ABOUT = """\
# What Loupe promises, and how it was tried

This page is made by `make prove` from the results in [docs/reliability](reliability), one file for each row, and a test
compares the two. `make prove SECTION=8` tries one row (or `SECTION=8,19`, `SECTION=1-7`, a section such as `queue`), on
this machine and in its full form, and writes `build/prove/8.json`; `make test` tries every row in a short form.

- **Trials** are counted one by one; those whose outcome cannot be told count as failures of the row.
- **95 % upper bound**: the share of failures that so many trials cannot rule out (exact binomial; without a failure
  about 3/n).
- **Negative control**: the same check with the defence switched off. It has to fail; a check that passes all the same
  would prove nothing, and its row is not kept.
- Figures behind a promise are p50 / p99 / max of what was measured, in the unit of the name.
"""
NOT_TESTED = """\
- Real power loss: a process is killed, the machine never is.
- Windows, and hosts behind a real network: hosts are processes of this machine on loopback addresses, or in network
  namespaces where a row says so.
- A real GPU that is lost: hosts compute on the CPU, or only pretend to compute.
- More than one Loupe at a time in front of the same hosts.
"""


def render(known: Sequence[Promise], results: Mapping[int, Result]) -> str:
    """The page. Promises without a result have a row as well, which says so."""
    rows = [_row(one, results.get(one.row)) for one in known]
    made = [results[one.row] for one in known if one.row in results]
    table = [_line(HEADS), _line(["---"] * len(HEADS)), *map(_line, rows)]
    parts = [ABOUT, "\n".join(table) + "\n"]
    parts += ["## Figures\n", "\n".join(_details(result) for result in made)] if made else []
    untested = "".join(f"- Row {one.row}: {one.untested}\n" for one in known if one.untested)
    parts += ["## What was not tested\n", NOT_TESTED + untested]
    return "\n".join(parts)


def _line(cells: Sequence[str]) -> str:
    """Unpadded: a row that changes leaves the others as they are."""
    return f"| {' | '.join(cells)} |"


def _row(what: Promise, result: Result | None) -> list[str]:
    promise = f"{what.text}: {what.figure}"
    if result is None:
        return [str(what.row), promise, *["not run yet"] + [DASH] * 5]
    bound = result["upper_bound_95"]
    failures = str(result["failures"]) + (f" and {result['unknown']} unknown" if result["unknown"] else "")
    return [
        str(what.row), promise if result["kept"] else f"**NOT KEPT** {promise}", str(result["n"]), failures,
        _series(result), f"< {_percent(bound)}" if bound is not None else DASH, _controls(result), result["date"][:10],
    ]  # fmt: skip


def _series(result: Result) -> str:
    told = [
        f"{name}: {one['p50']:g} / {one['p99']:g} / {one['max']:g}" for name, one in result["measures"].items()
    ]  # fmt: skip
    return "; ".join(told) or DASH


def _controls(result: Result) -> str:
    """What each control did: "fails" is what it is for."""
    return "; ".join(
        f"{one['off']}: {'fails' if one['failed'] else 'PASSES'}"
        + (f" ({one['failures']} of {one['n']})" if one["failures"] else "")
        for one in result["controls"]
    )


def _percent(share: float) -> str:
    return f"{share * 100:.2g} %"


def _details(result: Result) -> str:
    figures = "; ".join(f"{name} {_told(value)}" for name, value in result["figures"].items())
    where = result["machine"]
    lines = [f"**{result['row']}. {result['promise']}.** {figures + '.' if figures else ''}".rstrip()]
    lines += [f"Not kept: {'; '.join(result['faults'])}."] if not result["kept"] else []
    lines += [
        f"{result['date'].replace('T', ' ')}, `{result['command']}`, seed {result['seed']}, commit {result['commit']}, "
        f"{result['seconds']:g} s; {where['processor']}, {where['cores']} cores, Python {where['python']}, "
        f"load {where['load']}."
    ]
    return "\n".join(lines) + "\n"


def _told(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"
