"""Reading request bodies: whole, in pieces, too large, too many at once, too slow, and from a client that leaves."""

from __future__ import annotations

import asyncio

import pytest

from app.core.errors import Cancelled, PayloadTooLarge
from app.runtime import web
from app.runtime.web import Bodies, BodiesTooLarge, BodyTooSlow, error_answer

pytestmark = pytest.mark.anyio


def sent(*pieces: bytes, ends: bool = True):
    """What a server gives to an application; a body that does not end waits for ever."""
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages[-1]["more_body"] = not ends

    async def receive():
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    return receive


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "BODY_LIMIT", 10)
    monkeypatch.setattr(web, "BODIES_LIMIT", 15)


async def read(bodies: Bodies, receive) -> bytes:
    async with bodies.read(receive) as body:
        return body


async def test_pieces_are_joined():
    assert await read(Bodies(), sent(b"abc", b"", b"def")) == b"abcdef"


async def test_a_body_past_the_limit_is_refused():
    with pytest.raises(PayloadTooLarge, match="larger than 10 bytes"):
        await read(Bodies(), sent(b"123456", b"789012"))


async def test_bodies_under_way_share_a_limit_and_give_their_share_back():
    bodies = Bodies()
    async with bodies.read(sent(b"1234567890")):
        with pytest.raises(BodiesTooLarge) as caught:
            await read(bodies, sent(b"123456"))
        assert error_answer(caught.value).headers == (("retry-after", "1"),)
        assert await read(bodies, sent(b"12345")) == b"12345"
    assert await read(bodies, sent(b"123456")) == b"123456"


async def test_a_body_that_does_not_end_is_given_up_with_its_connection(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(web, "BODY_SECONDS", 0.01)
    bodies = Bodies()
    with pytest.raises(BodyTooSlow) as caught:
        await read(bodies, sent(b"1234567890", ends=False))
    answer = error_answer(caught.value)
    assert (answer.status, answer.headers) == (408, (("connection", "close"),))
    async with bodies.read(sent(b"1234567890")):
        assert await read(bodies, sent(b"12345")) == b"12345"


async def test_a_slow_answer_is_no_slow_body(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(web, "BODY_SECONDS", 0.01)
    with pytest.raises(TimeoutError):
        async with Bodies().read(sent(b"1")):
            async with asyncio.timeout(0.05):
                await asyncio.Event().wait()


async def test_a_client_that_leaves_ends_the_reading():
    async def receive():
        return {"type": "http.disconnect"}

    with pytest.raises(Cancelled):
        await read(Bodies(), receive)
