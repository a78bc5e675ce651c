"""Every promise of docs/reliability.md in its short form, with its negative controls; `make prove` is the full one."""

from __future__ import annotations

import pytest

from proving.promises import Promise, promises, prove


@pytest.mark.promise
@pytest.mark.timeout(90)
@pytest.mark.parametrize("what", promises(), ids=lambda what: f"{what.row}-{what.name}")
def test_the_promise_is_kept_and_its_control_fails(what: Promise) -> None:
    proof = prove(what, seed=1, short=True)
    assert proof.faults() == []
