"""Writes docs/replay.md: what the replay of the recordings compares, and what not. `python -m tests.golden_table`"""

from __future__ import annotations

from pathlib import Path

from tests.golden_compare import HEADERS_LEFT_OUT, MEASURED, NOT_PLAYED, REPLACED
from tests.golden_session import OFFLINE, cases

PAGE = Path(__file__).parents[1] / "docs" / "replay.md"

_HEAD = """\
# Replay of a real Ollama's recordings

`tests/data/ollama` holds {total} exchanges with a real Ollama 0.33.0, recorded in one session. The replay, in
`tests/contract/test_runtime_golden.py` and part of `make test`, plays them in the order of the session against the
embedded runtime as a process, from an empty store to the last pull, and compares status, headers and body.

**{played} are played: {exact} are equal text for text, {measured} but for what is listed below. {not_played} are
not played.**

    python3 tasks.py test-contract -k runtime_golden

`GOLDEN_BASE_URL=http://127.0.0.1:11434` before it plays them against another server, which must have an empty store.
This page is written by `python -m tests.golden_table`; a test compares it with what is played.

"""


def page() -> str:
    every = cases()
    played = len(every) - len(NOT_PLAYED)
    measured = len(MEASURED.keys() - NOT_PLAYED.keys())
    head = _HEAD.format(
        total=len(every), played=played, exact=played - measured, measured=measured, not_played=len(NOT_PLAYED)
    )
    replaced = [(what, f"replaced in both: {why}") for what, (_, _, why) in REPLACED.items()]
    headers = [(f"header `{name}`", f"not compared: {why}") for name, why in HEADERS_LEFT_OUT.items()]
    lengths = ("header `content-length`", "compared where nothing in the body was replaced")
    places = ("the store's folder, the registry's address", "called as in the recordings")
    apart = "in a network namespace without a route; skipped, with the reason, where none can be made"
    return (
        "".join(
            [
                head,
                _table("In every case", ("What", "How"), [*replaced, places, *headers, lengths]),
                _table("Compared in part", ("Cases", "What is not compared as text, and why"), _by_reason(MEASURED)),
                _table("Played apart", ("Cases", "How"), [(_names(OFFLINE), apart)]),
                _table("Not played", ("Cases", "Why"), _by_reason(NOT_PLAYED)),
            ]
        ).rstrip()
        + "\n"
    )


def _by_reason(reasons: dict[str, str]) -> list[tuple[str, str]]:
    grouped: dict[str, list[str]] = {}
    for case, reason in reasons.items():
        grouped.setdefault(reason, []).append(case)
    return [(_names(found), reason) for reason, found in grouped.items()]


def _names(found: list[str]) -> str:
    return ", ".join(f"`{case}`" for case in found)


def _table(title: str, head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    if not rows:
        return f"## {title}\n\nNone.\n\n"
    lines = [f"| {left} | {right} |" for left, right in (head, ("---", "---"), *rows)]
    return "\n".join([f"## {title}", "", *lines, "", ""])


if __name__ == "__main__":
    PAGE.write_text(page())
