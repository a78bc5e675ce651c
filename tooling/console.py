"""What the tasks say, and how they fail: one line on standard error, exit status not 0."""

from __future__ import annotations

import sys


class TaskFailed(Exception):
    """The verb cannot go on. The text is one line: what happened, and what to do."""


def say(line: str) -> None:
    """Print one line now, also where the output is a file."""
    print(line, flush=True)


def warn(line: str) -> None:
    """Print one line on standard error now."""
    print(line, file=sys.stderr, flush=True)
