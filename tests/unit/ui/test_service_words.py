"""What the Service screen says of the cache."""

from __future__ import annotations

from app.services.cache_views import AGE_BANDS, AgeBand
from app.ui import service_words as words


def test_the_ages_of_cached_answers_say_where_each_band_begins_and_ends() -> None:
    bands = tuple(AgeBand(age, 1) for age in (*AGE_BANDS, None))
    labels = words.band_labels(bands)
    assert labels == (
        "up to 1 minute", "1 minute to 1 hour", "1 hour to 1 day", "1 day to 7 days", "7 days to 30 days",
        "over 30 days",
    )  # fmt: skip
    assert words.band_labels(()) == ()
