"""What was under way, kept for the next process; and the small files it is kept in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.services.job_journal import Interrupted, Journal
from app.services.small_file import read_small

pytestmark = pytest.mark.anyio
PULL = Interrupted("pull", "http://127.0.0.1:5/library/m:q8_0", "one", insecure=True)
MAKE = Interrupted("make", "m:fp16", "two", "Q5_K_M")


async def test_what_is_not_removed_is_there_for_the_next_process(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "jobs.json")
    assert await journal.open() == ()
    for row in (PULL, MAKE, PULL):
        await journal.add(row)
    assert await Journal(tmp_path / "jobs.json").open() == (PULL, MAKE)
    await journal.remove(PULL)
    await journal.remove(PULL)
    assert await Journal(tmp_path / "jobs.json").open() == (MAKE,)
    assert os.listdir(tmp_path) == ["jobs.json"]  # noqa: PTH208  # no draft stays


@pytest.mark.parametrize(
    "text", ["", "{", "7", '[7, {"kind": "steal"}, {"kind": "pull", "model": "", "host": "", "level": ""}]']
)
async def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "jobs.json").write_text(text)
    assert await Journal(tmp_path / "jobs.json").open() == ()


async def test_a_folder_that_cannot_be_written_stops_no_job(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "missing" / "jobs.json")
    await journal.add(PULL)
    assert read_small(tmp_path / "missing" / "jobs.json") is None


def test_two_spellings_of_one_thing_have_one_key() -> None:
    assert Interrupted("pull", "M:Q8_0", "one").key == Interrupted("pull", "library/m:q8_0", "one").key
    assert MAKE.key != Interrupted("make", "m:fp16", "two", "Q6_K").key
