"""Without a Chromium the browser tests are skipped and the summary says so; where one can be installed, they fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run_without_chromium(tmp_path):
    def run(**environ: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "test_probe.py").write_text("def test_probe(browser):\n    assert browser\n")
        words = ["-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider", str(tmp_path)]
        return subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env={"PATH": str(tmp_path), "HOME": str(tmp_path)} | environ,
            capture_output=True,
            text=True,
            check=False,
        )

    if sys.platform == "darwin" and os.path.exists("/Applications/Google Chrome.app"):  # noqa: PTH110
        pytest.skip("this machine's Chrome is found without PATH")
    return run


def test_browser_tests_are_skipped_and_counted_where_no_chromium_can_be_had(run_without_chromium):
    done = run_without_chromium()
    assert done.returncode == 0
    assert "1 skipped" in done.stdout
    assert "1 browser tests were skipped: no Chromium on this machine" in done.stdout


def test_browser_tests_fail_where_chromium_could_be_installed(run_without_chromium):
    done = run_without_chromium(LOUPE_REQUIRE_BROWSER="1")
    assert done.returncode == 1
    assert "it can be installed here" in done.stdout
