"""Polls over a scripted chat and a real file of votes: blindness, order, what is kept, what an error leaves."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from app.comparison.ballots import AHEAD, Ballots, Poll, PollView
from app.comparison.blind_votes import Vote
from app.comparison.pane_run import PaneAsker
from app.comparison.rounds import Pane
from app.comparison.vote_store import VoteStore
from app.core.errors import BadRequest, Draining, GenerationFailed, StoreError
from app.core.generation import Chunk, GenerationRequest, Priority, Usage
from app.core.ports import SystemClock
from app.services.chat import Caller

pytestmark = pytest.mark.anyio
QUESTIONS = tuple(f"question {number}?" for number in range(6))


class Models:
    """Each answers with its name, which a voter in these tests reads; those in `alike` say the same words."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.callers: list[Caller] = []
        self.alike = False
        self.failures: list[Exception] = []

    async def ask(self, request: GenerationRequest, caller: Caller) -> AsyncIterator[Chunk]:
        question = cast(Any, request.body["messages"])[-1]["content"]
        self.asked.append((request.model, question))
        self.callers.append(caller)
        if self.failures:
            raise self.failures.pop(0)
        await asyncio.sleep(0)
        caller.trace.host, caller.trace.digest = "one", f"digest of {request.model}"
        yield Chunk(b"", text="the same  words" if self.alike else f"I am {request.model}")
        yield Chunk(b"", done=True, done_reason="stop", usage=Usage(output_tokens=4, decode_ns=10**8))


class Idle:
    def seats(self) -> tuple[Any, ...]:
        return ()

    def statuses(self) -> tuple[Any, ...]:
        return ()

    async def ps(self) -> tuple[Any, ...]:
        return ()


class NoMeter:
    async def read(self) -> None:
        return None


class Bench:
    def __init__(self, folder: Path) -> None:
        self.models, self.store = Models(), VoteStore(folder / "votes.jsonl")
        asker = PaneAsker(cast(Any, self.models), Idle(), cast(Any, NoMeter()))
        self.ballots = Ballots(asker, self.store, SystemClock(), random.Random(5))

    async def open(self, *models: str, questions: tuple[str, ...] = QUESTIONS) -> Poll:
        panes = tuple(Pane(model, model.upper()) for model in models)
        return await self.ballots.open(Poll("fam", "chat", panes, questions), Caller())

    async def next(self) -> PollView:
        """The poll when a ballot is ready, or none will come."""
        async with asyncio.timeout(10):
            async for view in self.ballots.watch("local"):
                if view.ballot or view.done or view.error:
                    return view
        raise AssertionError("the poll ended")

    async def prefer(self, model: str) -> PollView:
        view = await self.next()
        assert view.ballot
        choice = "left" if model in view.ballot.left else "right" if model in view.ballot.right else "tie"
        await self.ballots.vote("local", view.ballot.id, choice)
        return view


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    await made.ballots.close()


async def test_a_ballot_is_whole_and_tells_no_names_until_the_vote(bench: Bench) -> None:
    await bench.open("a:1", "b:1")
    view = await bench.next()
    assert view.ballot and {view.ballot.left, view.ballot.right} == {"I am a:1", "I am b:1"}
    assert view.reveal is None and not hasattr(view.ballot, "a")
    await bench.ballots.vote("local", view.ballot.id, "left")
    after = await bench.next()
    assert after.reveal and after.reveal.left.lower() in view.ballot.left and after.reveal.choice == "left"
    assert after.votes == 1


async def test_every_pair_comes_once_on_every_question_and_the_sides_are_shuffled(bench: Bench) -> None:
    await bench.open("a:1", "b:1", "c:1")
    while (view := await bench.next()).ballot:
        await bench.ballots.vote("local", view.ballot.id, "tie")
    assert view.done and view.votes == 18
    votes = bench.store.all()
    assert Counter((frozenset((vote.a, vote.b)), vote.question) for vote in votes).most_common(1)[0][1] == 1
    left = Counter(vote.left for vote in votes if {vote.a, vote.b} == {"a:1", "b:1"})
    assert set(left) == {"a:1", "b:1"}, "each stands on either side"


async def test_votes_are_kept_with_what_tells_the_weights_apart(bench: Bench, tmp_path: Path) -> None:
    await bench.open("a:1", "b:1")
    await bench.prefer("a:1")
    [vote] = VoteStore(tmp_path / "votes.jsonl").all()
    winner = vote.a if vote.choice == "a" else vote.b
    assert winner == "a:1" and vote.family == "fam" and vote.task == "chat"
    assert {vote.a: vote.digest_a, vote.b: vote.digest_b} == {name: f"digest of {name}" for name in ("a:1", "b:1")}
    assert vote.seconds is not None and vote.seconds >= 0


async def test_answers_with_the_same_words_are_set_aside_as_ties(bench: Bench) -> None:
    bench.models.alike = True
    await bench.open("a:1", "b:1")
    view = await bench.next()
    assert view.done and view.ballot is None and view.same == len(QUESTIONS) and view.votes == 0
    assert {vote.choice for vote in bench.store.all()} == {"same"}


async def test_it_answers_ahead_but_not_without_end_and_models_are_not_loaded_to_and_fro(bench: Bench) -> None:
    await bench.open("a:1", "b:1", questions=tuple(f"q{number}" for number in range(30)))
    view = await bench.next()
    async with asyncio.timeout(10):
        while len(bench.ballots._running["local"].ready) < AHEAD:
            await asyncio.sleep(0.001)
    asked = [model for model, _ in bench.models.asked]
    swaps = sum(one != other for one, other in zip(asked, asked[1:], strict=False))
    assert len(asked) <= 2 + 4 * AHEAD and swaps <= 4
    assert view.ballot and bench.models.callers[0].priority is Priority.INTERACTIVE
    assert bench.models.callers[-1].priority is Priority.BATCH, "what is made ahead lets others pass"
    assert len({caller.group for caller in bench.models.callers}) == 1


async def test_a_second_click_is_no_second_vote(bench: Bench) -> None:
    await bench.open("a:1", "b:1")
    view = await bench.next()
    assert view.ballot
    done = await asyncio.gather(
        *(bench.ballots.vote("local", view.ballot.id, "left") for _ in range(2)), return_exceptions=True
    )
    assert sum(isinstance(one, BadRequest) for one in done) == 1 and len(bench.store.all()) == 1


async def test_a_vote_that_cannot_be_written_is_not_taken(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Vote) -> None:
        raise StoreError("the disk is full")

    await bench.open("a:1", "b:1")
    view = await bench.next()
    assert view.ballot
    with monkeypatch.context() as patch:
        patch.setattr(bench.store, "add", full)
        with pytest.raises(StoreError):
            await bench.ballots.vote("local", view.ballot.id, "left")
    assert (await bench.next()).ballot == view.ballot
    await bench.ballots.vote("local", view.ballot.id, "left")


async def test_an_error_is_told_and_can_be_tried_again(bench: Bench) -> None:
    bench.models.failures = [GenerationFailed("one", "it broke")]
    await bench.open("a:1", "b:1")
    assert (await bench.next()).error
    await bench.ballots.retry("local")
    assert (await bench.next()).ballot


@pytest.mark.parametrize(
    ("models", "questions", "told"),
    [(("a:1",), QUESTIONS, "2 to 6"), (("a:1", "a:1"), QUESTIONS, "twice"), (("a:1", "b:1"), (" ",), "at least one")],
)
async def test_what_cannot_be_voted_on_is_told(
    models: tuple[str, ...], questions: tuple[str, ...], told: str, bench: Bench
) -> None:
    with pytest.raises(BadRequest, match=told):
        await bench.open(*models, questions=questions)


async def test_a_poll_ends_and_another_owner_has_none(bench: Bench) -> None:
    await bench.open("a:1", "b:1")
    await bench.next()
    assert bench.ballots.view("somebody") is None
    await bench.ballots.end("local")
    assert bench.ballots.view("local") is None
    await bench.ballots.close()
    with pytest.raises(Draining):
        await bench.open("a:1", "b:1")


async def test_votes_of_one_family_and_task_are_deleted(bench: Bench) -> None:
    await bench.open("a:1", "b:1")
    await bench.prefer("a:1")
    bench.store.add(Vote("x", 1.0, "local", "fam", "code", "q", "a:1", "b:1", "tie"))
    bench.store.add(Vote("y", 1.0, "somebody", "fam", "chat", "q", "a:1", "b:1", "tie"))
    assert await bench.ballots.remove("fam", "chat", "local") == 1
    assert [vote.id for vote in bench.store.all()] == ["x", "y"]
    assert [vote.id for vote in await bench.ballots.votes("local")] == ["x"]


def test_half_a_line_costs_that_vote_alone(tmp_path: Path) -> None:
    file = tmp_path / "votes.jsonl"
    one = Vote("1", 1.0, "local", "f", "t", "q", "a", "b", "a")
    VoteStore(file).add(one)
    with file.open("ab") as opened:
        opened.write(b'{"id": "2", "at": 2.0, "princ')
    store = VoteStore(file)
    store.add(Vote("3", 3.0, "local", "f", "t", "q", "a", "b", "b"))
    assert [vote.id for vote in VoteStore(file).all()] == ["1", "3"] and store.all()[0] == one
    assert json.loads(file.read_text().splitlines()[0])["choice"] == "a"


def test_only_so_many_votes_are_kept_the_newest_ones(tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "votes.jsonl", kept=3)
    for number in range(5):
        store.add(Vote(str(number), float(number), "local", "f", "t", "q", "a", "b", "a"))
    assert [vote.id for vote in VoteStore(tmp_path / "votes.jsonl").all()] == ["2", "3", "4"]
