"""Every promise of docs/reliability.md in its short form, with its negative controls; `make prove` is the full one."""

from __future__ import annotations

import os

import pytest

from proving.promises import Promise, promises, prove
from tests.conftest import NO_BROWSER
from tooling.system_packages import find_chromium


@pytest.mark.promise
@pytest.mark.parametrize(
    "what",
    [pytest.param(what, marks=pytest.mark.timeout(300 if what.browser else 90)) for what in promises()],
    ids=[f"{what.row}-{what.name}" for what in promises()],
)
def test_the_promise_is_kept_and_its_control_fails(what: Promise) -> None:
    if what.browser and find_chromium() is None:
        if os.environ.get("LOUPE_REQUIRE_BROWSER") == "1":
            pytest.fail(f"{NO_BROWSER}, and it can be installed here: python3 tasks.py test does that")
        pytest.skip(NO_BROWSER)
    proof = prove(what, seed=1, short=True)
    assert proof.faults() == []
