"""Tests of one group run on one worker: module fixtures are made once, and the e2e floor has the machine for itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = """
import pytest
pytestmark = pytest.mark.xdist_group("one")

@pytest.mark.parametrize("n", range(8))
def test_it(n, worker_id):
    print("ran on", worker_id)
"""


def test_a_group_is_not_torn_apart(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_collection_modifyitems\n")
    (tmp_path / "test_group.py").write_text(TESTS)
    words = ["-q", "-rP", "-n2", "--dist", "loadgroup", "-c", str(tmp_path / "pytest.ini"), str(tmp_path)]
    ran = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, capture_output=True, text=True, timeout=60)
    workers = {line for line in ran.stdout.splitlines() if line.startswith("ran on gw")}
    assert "8 passed" in ran.stdout, ran.stdout[-1000:] + ran.stderr[-1000:]
    assert len(workers) == 1
