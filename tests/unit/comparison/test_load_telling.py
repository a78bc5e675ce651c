"""What a load run says of its percentiles."""

from __future__ import annotations

import pytest

from app.comparison.load_lab.figures import Percentile
from app.comparison.load_lab.telling import interval


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (Percentile(1.2, 1.1, 1.31), "1.10 s to 1.31 s"), (Percentile(1.28, 1.17), "from 1.17 s"),
        (Percentile(0.012, 0.0119, 0.0121), ""), (Percentile(0.012, 0.0119), ""), (Percentile(0.012), ""), (None, ""),
    ],
)  # fmt: skip
def test_an_interval_is_told_where_it_says_more_than_the_value(told: Percentile | None, said: str) -> None:
    assert interval(told) == said
