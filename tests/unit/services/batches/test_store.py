"""Batches on disk: each prompt once, whatever happens to the process and the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.core.errors import StoreError
from app.services.batches.store import BatchStore
from app.services.batches.values import Batch, BatchState, Form, Outcome, Prompt

BATCH = Batch("20260101-000000-aa", "a.txt", "local", Form.TEXT, 5.0, 4, ("m", "n"))
SAID = Outcome({"message": {"content": "yes"}, "prompt_eval_count": 3, "eval_count": 2}, host="h", seconds=1.5)


def prompt(seq: int, model: str = "m") -> Prompt:
    return Prompt(seq, str(seq), "/api/chat", {"model": model}, {"prompt": f"p{seq}"})


@pytest.fixture
def store(tmp_path: Path) -> BatchStore:
    made = BatchStore(tmp_path / "data" / "batches.db")
    made.add(BATCH, [prompt(1), prompt(2, "n"), prompt(3), prompt(4, "n")])
    return made


def test_prompts_of_one_model_are_asked_together_in_the_order_of_the_file(store: BatchStore) -> None:
    assert store.todo(BATCH.id) == [1, 3, 2, 4]


def test_what_has_an_answer_keeps_it_and_is_not_asked_again(store: BatchStore, tmp_path: Path) -> None:
    assert store.finish(BATCH.id, 3, SAID)
    assert not store.finish(BATCH.id, 3, replace(SAID, host="later"))
    assert store.finish(BATCH.id, 2, Outcome(status=500, error="broke", tries=3))
    store.close()
    again = BatchStore(tmp_path / "data" / "batches.db")
    assert again.todo(BATCH.id) == [1, 4]
    [kept] = again.batches()
    assert kept == replace(BATCH, answered=1, failed=1, prompt_tokens=3, output_tokens=2)
    ended = again.results(BATCH.id, 0, 10, as_ended=True)
    assert [(place, one.seq, outcome.host) for place, one, outcome in ended] == [(1, 3, "h"), (2, 2, "")]
    assert [one.seq for _, one, _ in again.results(BATCH.id, 0, 10, as_ended=False)] == [2, 3]
    assert [one.seq for _, one, _ in again.results(BATCH.id, 1, 10, as_ended=True)] == [2]


def test_what_failed_is_asked_again_when_that_is_wanted(store: BatchStore) -> None:
    store.finish(BATCH.id, 1, SAID)
    store.finish(BATCH.id, 2, Outcome(status=500, error="broke"))
    assert store.again(BATCH.id) == 1
    assert store.todo(BATCH.id) == [3, 2, 4]
    assert [one.seq for one, _ in store.latest(BATCH.id, 10)] == [1]
    assert store.finish(BATCH.id, 2, SAID)
    assert [one.seq for _, one, _ in store.results(BATCH.id, 2, 10, as_ended=True)] == [2]  # for who has read up to 2


def test_the_columns_are_those_of_all_rows(store: BatchStore) -> None:
    rows = [{"prompt": "a"}, {"tópic": "b", "prompt": "c"}, {"id": 1}]
    store.add(replace(BATCH, id="other"), [replace(prompt(at), given=row) for at, row in enumerate(rows, 1)])
    assert store.columns("other") == ("prompt", "tópic", "id")


def test_state_and_end_are_kept_and_a_deleted_batch_is_gone(store: BatchStore) -> None:
    store.set_state(BATCH.id, BatchState.FAILED, 9.0, "disk")
    assert store.batches()[0] == replace(BATCH, state=BatchState.FAILED, ended_at=9.0, error="disk")
    store.delete(BATCH.id)
    assert store.batches() == [] and store.prompt(BATCH.id, 1) is None
    assert not store.finish(BATCH.id, 1, SAID)


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    file = tmp_path / "batches.db"
    file.write_bytes(b"no database" * 900)
    store = BatchStore(file)
    assert store.batches() == []
    store.add(BATCH, [prompt(1)])
    assert file.with_name("batches.db.damaged").read_bytes().startswith(b"no database")


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(StoreError, match="cannot be kept"):
        BatchStore(tmp_path / "data" / "batches.db").batches()
