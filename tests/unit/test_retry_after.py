"""`Retry-After` as hosts send it."""

from __future__ import annotations

import pytest

from app.backends.retry_after import retry_after

CASES = [
    ({"retry-after": "120"}, 120.0),
    ({"retry-after": " 0 "}, 0.0),
    ({"retry-after": "Thu, 26 Nov 2026 10:00:30 GMT", "date": "Thu, 26 Nov 2026 10:00:00 GMT"}, 30.0),
    ({"retry-after": "Thu, 26 Nov 2026 10:00:00 GMT", "date": "Thu, 26 Nov 2026 10:00:30 GMT"}, 0.0),
    ({"retry-after": "Sun Nov  6 08:49:37 1994", "date": "Sun, 06 Nov 1994 08:49:07 GMT"}, 30.0),
    ({"retry-after": "-5"}, None),
    ({"retry-after": "soon"}, None),
    ({"retry-after": ""}, None),
    ({"retry-after": "9" * 400}, 999_999_999.0),
    ({}, None),
]


@pytest.mark.parametrize(("headers", "seconds"), CASES)
def test_seconds_and_dates_are_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_date_without_the_hosts_own_counts_from_now() -> None:
    assert retry_after({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}) > 1e9
    assert retry_after({"retry-after": "Sat, 01 Jan 2000 00:00:00 GMT"}) == 0
