"""The check as text: what is pasted where one asks for help, and what the command line prints."""

from __future__ import annotations

from collections.abc import Sequence

from app.core.checks import Check, Verdict

SIGNS = {Verdict.OK: "ok", Verdict.WARN: "WARN", Verdict.FAIL: "FAIL", Verdict.UNKNOWN: "?"}


def as_text(checks: Sequence[Check], version: str) -> str:
    width = max((len(check.name) for check in checks), default=0)
    lines = [f"Loupe {version}"]
    for check in checks:
        needed = f" (needed: {check.needed})" if check.needed and check.status is not Verdict.OK else ""
        lines.append(f"{SIGNS[check.status]:<4}  {check.name:<{width}}  {check.found}{needed}")
        if check.advice:
            lines.append(f"{'':<{width + 8}}{check.advice}")
    return "\n".join(lines)


def in_short(checks: Sequence[Check]) -> str:
    """One sentence for all."""
    bad = [check.name for check in checks if check.status is Verdict.FAIL]
    odd = [check.name for check in checks if check.status is Verdict.WARN]
    better = f"{'one thing' if len(odd) == 1 else f'{len(odd)} things'} could be better: {', '.join(odd)}."
    if bad:
        first = f"{'One thing does' if len(bad) == 1 else f'{len(bad)} things do'} not work: {', '.join(bad)}"
        return f"{first}; {better}" if odd else f"{first}."
    return f"Works; {better}" if odd else "This machine is right for Loupe."
