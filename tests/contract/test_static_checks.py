"""The tree passes its own linter, formatter and type checker: a checkout that does not is not proven."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tooling.verbs import sources

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(600)  # mypy from nothing, on a core that others use too
@pytest.mark.parametrize(
    "words",
    [
        ["ruff", "check", *sources()],
        ["ruff", "format", "--check", "--quiet", *sources()],
        ["mypy", "--no-error-summary"],
    ],
    ids=["lint", "format", "types"],
)
def test_the_tree_passes(words):
    done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
