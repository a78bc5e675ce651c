"""What `tests.fuzz` does by the million under atheris, here by the hundred: good inputs, damaged at random."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import TARGETS, Stall, seeds, timed

PATIENCE = 5.0  # seconds of CPU for one input
_DAMAGE = st.sampled_from(
    [b"", b"\0", b"\xff" * 8, b"{{", b"}}", b'"', b"[" * 300, b"1e999", b"\xed\xa0\x80", b"\\ud800"]
)


@st.composite
def damaged(draw: st.DrawFn, name: str) -> bytes:
    data = draw(st.sampled_from(list(seeds(name))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.sampled_from((0, 1, 4, 8, 64))))
        data = data[:at] + draw(st.one_of(_DAMAGE, st.binary(max_size=8), st.just(data[at:end] * 3))) + data[end:]
    return data


@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_input_is_read_or_refused_with_the_one_error(name: str):
    target = timed(TARGETS[name], PATIENCE)

    @settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
    @given(damaged(name))
    def run(data: bytes) -> None:
        target(data)

    run()


def test_a_stall_is_a_failure():
    def slow(_: bytes) -> None:
        sum(range(1_000_000))

    with pytest.raises(Stall):
        timed(slow, 0.0)(b"")
