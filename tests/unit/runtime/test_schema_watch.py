"""What the worker's log says of schemas, and requests whose schema was not taken."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from app.core.errors import HostRefused
from app.runtime.schema_watch import held_to
from app.runtime.worker_client import Piece
from app.runtime.worker_log import WorkerLog

pytestmark = pytest.mark.anyio

REFUSED = (
    b"0.06.329.941 E llg error: at 2(8): failed to compile JSON schema: regex parse error:\n    ^(?=a)b$\n     ^^^\n"
    b"error: look-around, including look-ahead and look-behind, is not supported\n   1 | %llguidance {}\n"
)
BEGUN = b"0.06.330.027 I slot   operator(): id  0 | task 0 | new prompt, n_ctx_slot = 512, n_keep = 0\n"


def feed(log: WorkerLog, text: bytes) -> None:
    for line in text.splitlines():
        log.feed(line)


def runner():
    return SimpleNamespace(worker=SimpleNamespace(log=WorkerLog()), schema_turn=asyncio.Lock())


def answering(log: WorkerLog, said: bytes, *, late: bool = False):
    """Two pieces; the log says `said` before the first one, or (`late`) when its reader comes to it."""

    async def events():
        if late:
            asyncio.get_running_loop().call_later(0.02, feed, log, said)
        else:
            feed(log, said)
        yield Piece("a")
        yield Piece("b")

    return events()


def test_the_log_says_why_a_schema_was_not_taken():
    log = WorkerLog()
    assert (log.refusals, log.refusal) == (0, "")
    feed(log, REFUSED + BEGUN)
    assert log.refusals == 1
    assert log.refusal == ("regex parse error: look-around, including look-ahead and look-behind, is not supported")
    feed(
        log, b'0.07.916.931 E llg error: at 2(8): failed to compile JSON schema: Unimplemented keys: ["not"]\n' + BEGUN
    )
    assert (log.refusals, log.refusal) == (2, 'Unimplemented keys: ["not"]')


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("field", ["json_schema", "response_format"])
async def test_a_schema_that_was_not_taken_is_an_error_before_the_first_piece(field: str, late: bool):
    held = runner()
    events = held_to(held, {field: {}}, answering(held.worker.log, REFUSED + BEGUN, late=late))
    with pytest.raises(HostRefused, match="look-around") as caught:
        await anext(events)
    assert caught.value.status == 400
    assert not held.schema_turn.locked()


async def test_one_that_was_taken_and_one_without_a_schema_go_through():
    held = runner()
    taken = [event.text async for event in held_to(held, {"json_schema": {}}, answering(held.worker.log, BEGUN))]
    plain = [event.text async for event in held_to(held, {"prompt": "Hi"}, answering(held.worker.log, REFUSED))]
    assert taken == plain == ["a", "b"]


async def test_a_log_that_says_nothing_does_not_hold_an_answer_back_for_ever(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("app.runtime.schema_watch._LATEST_SECONDS", 0.01)
    held = runner()
    assert [event.text async for event in held_to(held, {"json_schema": {}}, answering(held.worker.log, b""))] == [
        "a",
        "b",
    ]
