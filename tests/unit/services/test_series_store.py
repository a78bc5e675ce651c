"""Figures over time: in three resolutions, bounded, and never in anybody's way."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from app.services import series_store
from app.services.happenings import Happening
from app.services.series_store import RESOLUTIONS, Interval, SeriesStore

START = 1_700_000_000


def test_each_resolution_is_kept_for_its_time_and_has_the_true_means_and_peaks(tmp_path: Path) -> None:
    store = SeriesStore(tmp_path / "figures.db")
    rng = random.Random(9)
    values = {START + second: rng.random() for second in range(4000)}
    for at, value in values.items():
        store.add(at + 0.4, {"cpu": value})
    now = START + 4000
    for seconds, step in ((900, 1), (3000, 10)):
        told, intervals = store.read(now - seconds, now)
        assert told == step and [interval.at for interval in intervals] == list(range(now - seconds, now, step))
        for interval in intervals:
            there = [values[at] for at in range(interval.at, interval.at + step)]
            assert interval.figures["cpu"] == (
                pytest.approx(sum(there) / step, rel=1e-5),
                pytest.approx(max(there), rel=1e-5),
            )
    step, intervals = store.read(now - 100_000, now)
    assert step == 60 and intervals[0].at == START // 60 * 60
    store.close()


def test_a_new_process_finds_what_the_one_before_had_seen(tmp_path: Path) -> None:
    store = SeriesStore(tmp_path / "figures.db")
    for second in range(25):
        store.add(START + second, {"cpu": float(second)})
    store.close()
    again = SeriesStore(tmp_path / "figures.db")
    again.add(START + 30, {"cpu": 1.0})
    _, intervals = again.read(START, START + 40)
    assert [interval.at - START for interval in intervals] == [*range(25), 30]
    again.close()


def test_the_file_stays_bounded_however_long_it_runs(tmp_path: Path) -> None:
    store = SeriesStore(tmp_path / "figures.db")
    for looked in range(32 * 144):
        store.add(START + 600.0 * looked, {"cpu": 0.5})
    now = START + 600.0 * looked
    store.close()
    with closing(sqlite3.connect(tmp_path / "figures.db")) as database:
        oldest = dict(database.execute("SELECT step, min(at) FROM figures GROUP BY step").fetchall())
    assert all(oldest[step] >= now - kept for step, kept in RESOLUTIONS)


def test_a_clock_that_is_set_back_or_forth_breaks_nothing(tmp_path: Path) -> None:
    store = SeriesStore(tmp_path / "figures.db")
    for at in (
        START,
        START + 1,
        START - 3600,
        START - 3599,
        START + 3600,
        START + 3601,
        *range(START + 3602, START + 3620),
    ):
        store.add(at, {"cpu": 1.0})
    _, intervals = store.read(START - 4000, START + 4000)
    assert intervals and list(intervals) == sorted(intervals, key=lambda one: one.at)
    store.close()


@pytest.mark.parametrize("content", [b"", b"no database at all" * 500, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "figures.db").write_bytes(content)
    store = SeriesStore(tmp_path / "figures.db")
    for second in range(50):
        store.add(START + second, {"cpu": 1.0})
    assert len(store.read(START, START + 50)[1]) >= 40
    store.close()


def test_a_place_that_cannot_be_written_costs_only_the_history(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = SeriesStore(tmp_path / "file" / "figures.db")
    for second in range(50):
        store.add(START + second, {"cpu": 1.0})
    assert store.read(START, START + 60)[1]  # the newest seconds
    store.close()


def test_while_the_disk_is_full_the_newest_is_kept_in_memory_and_written_down_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_store, "UNWRITTEN", 50)
    store = SeriesStore(tmp_path / "figures.db")
    for second in range(20):
        store.add(START + second, {"cpu": 0.5})
    assert store.problem == "" and store._database is not None
    pages = store._database.execute("PRAGMA page_count").fetchone()[0]
    store._database.execute(f"PRAGMA max_page_count={pages}")  # SQLite's own words for a disk that is full
    for second in range(20, 320):
        store.add(START + second, {"cpu": 0.5, **{f"series{number}": 0.123456 for number in range(40)}})
    assert "not written down: database or disk is full" in store.problem
    assert 11 <= len(store._done) <= 60
    _, intervals = store.read(START + 285, START + 320)
    assert [interval.at for interval in intervals] == list(range(START + 285, START + 320))
    store._database.execute("PRAGMA max_page_count=100000")
    for second in range(320, 330):
        store.add(START + second, {"cpu": 0.5})
    assert store.problem == "" and not store._done
    _, intervals = store.read(START + 285, START + 330)
    assert [interval.at for interval in intervals] == list(range(START + 285, START + 330))
    store.close()


def test_so_many_points_as_are_asked_for_come_with_true_means_and_peaks(tmp_path: Path) -> None:
    store = SeriesStore(tmp_path / "figures.db")
    for second in range(1200):
        store.add(START + second, {"cpu": float(second % 100)})
    now = START + 1200
    assert store.read(now - 600, now, points=600)[0] == 1
    step, intervals = store.read(now - 600, now, points=100)
    assert step == 6 and len(intervals) <= 101
    _as_they_were(intervals, step)
    step, intervals = store.read(START, now, points=12)
    assert step == 120 and len(intervals) <= 13  # of those of 60 s
    _as_they_were(intervals, step)
    store.close()


def _as_they_were(intervals: Sequence[Interval], step: int) -> None:
    """The whole ones have the means and peaks of the seconds that they are made of."""
    for interval in intervals[1:-1]:
        begins = interval.at - START
        values = [float(second % 100) for second in range(begins, begins + step)]
        assert interval.figures["cpu"] == (pytest.approx(sum(values) / step, rel=1e-5), max(values))


def test_what_happened_is_kept_in_order_over_a_restart_and_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_store, "MARKS", 30)
    store = SeriesStore(tmp_path / "figures.db")
    for second in range(50):
        store.mark(Happening(START + second, "load", f"model {second}"))
        store.add(START + second, {"cpu": 1.0})
    store.close()
    again = SeriesStore(tmp_path / "figures.db")
    told = again.marks(START, START + 100)
    assert [one.text for one in told] == [f"model {second}" for second in range(20, 50)]
    assert again.marks(START, START + 100, most=2) == told[-2:]
    again.close()
