"""Rounds over a scripted chat and a real store: order, what is kept, what an error or a restart leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from app.comparison.live_round import RoundView
from app.comparison.pane_run import PaneAsker
from app.comparison.round_store import RoundNotFound, RoundStore
from app.comparison.rounds import MOST_PANES, Pane, Round, Turn
from app.comparison.side_by_side import SideBySide
from app.core.conversations import MessageState
from app.core.errors import BadRequest, Draining, GenerationFailed, QueueFull
from app.core.generation import CacheMode, Chunk, GenerationRequest, Priority, Usage
from app.core.hosts import HostAddress, HostState, HostStatus
from app.services.chat import Caller
from app.services.energy import EnergyMeter
from app.services.history import History
from app.services.host_pool import PooledLoad
from app.services.host_room import Beside
from app.services.telemetry import CacheDecision
from tests.fakes import FakeClock, loaded_model

pytestmark = pytest.mark.anyio
USAGE = Usage(900_000_000, 0, 20, 50_000_000, 10, 200_000_000)


class Models:
    """Answers "m: <question>"; `gates` hold a model until opened; `failures` by model are raised in the middle."""

    def __init__(self) -> None:
        self.asked: list[GenerationRequest] = []
        self.callers: list[Caller] = []
        self.now: set[str] = set()
        self.most = 0
        self.gates: dict[str, asyncio.Event] = {}
        self.failures: dict[str, list[Exception]] = {}
        self.cached: set[str] = set()

    async def ask(self, request: GenerationRequest, caller: Caller) -> AsyncIterator[Chunk]:
        self.asked.append(request)
        self.callers.append(caller)
        model, trace = request.model, caller.trace
        self.now.add(model)
        self.most = max(self.most, len(self.now))
        try:
            trace.host = "one"
            messages = cast(Any, request.body["messages"])
            yield Chunk(b"", text=f"{model}: ")
            if model in self.gates:
                await self.gates[model].wait()
            if self.failures.get(model):
                raise self.failures[model].pop(0)
            await asyncio.sleep(0)
            yield Chunk(b"", text=str(messages[-1]["content"]))
            trace.cache = CacheDecision("hit", "", 60.0) if model in self.cached else CacheDecision("miss")
            trace.add_span("load", 0.0, 0.3)
            trace.add_span("first token", 0.0, 0.4)
            yield Chunk(b"", done=True, done_reason="stop", usage=USAGE)
        finally:
            self.now.discard(model)


class Machine:
    """A host with slots, of which `busy` are taken."""

    def __init__(self, slots: int = 1) -> None:
        self.slots = slots
        self.fits = True
        self.busy = 1
        self.looked = False  # the lists of a host that was just found are not there yet
        self.address = HostAddress("one", "http://127.0.0.1:1", slots)

    async def resolve(self, model: str) -> None:
        self.looked = True

    def beside(self, models: Any) -> list[tuple[HostAddress, Beside]]:
        return [(self.address, Beside(self.fits, 0))] if self.looked else []

    def seats(self) -> tuple[Any, ...]:
        return ()

    def statuses(self) -> tuple[HostStatus, ...]:
        return (HostStatus(self.address, HostState.HEALTHY, busy_slots=self.busy),)

    async def ps(self) -> tuple[PooledLoad, ...]:
        return (PooledLoad(loaded_model("a:1"), "one"),)


class Bench:
    def __init__(self, folder: Path, history: History) -> None:
        self.models, self.machine, self.history = Models(), Machine(), history
        self.store, self.clock = RoundStore(folder / "rounds"), FakeClock()
        self.side = self.again()

    def again(self) -> SideBySide:
        """As after a restart."""
        asker = PaneAsker(cast(Any, self.models), self.machine, EnergyMeter(Path("/nowhere")))
        return SideBySide(
            asker, self.machine, self.store, self.history.adopt, lambda: 8 << 30, self.clock, grace_seconds=30.0
        )

    async def ended(self, round_id: str) -> Round:
        async with asyncio.timeout(10):
            last = [view async for view in self.side.attach(round_id, "local")][-1]
        assert not last.running
        return last.round

    async def asked(self, *models: str, questions: tuple[str, ...] = ("why?",), **more: Any) -> Round:
        return await self.side.start(Round(questions, tuple(Pane(model, model) for model in models), **more), Caller())


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    history = History(f"sqlite:///{tmp_path / 'h.db'}")
    await history.open()
    bench = Bench(tmp_path, history)
    yield bench
    await bench.side.close()
    await history.close()


async def until(check: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not check():
            await asyncio.sleep(0.002)


async def test_every_pane_answers_and_tells_what_it_cost(bench: Bench) -> None:
    ended = await bench.ended((await bench.asked("a:1", "b:1")).id)
    [a], [b] = (pane.answers for pane in ended.panes)
    assert (a.text, b.text) == ("a:1: why?", "b:1: why?") and a.complete and b.complete
    assert a.ttft == pytest.approx(0.1), "without the load"
    assert a.answer.usage == USAGE and a.memory == loaded_model("a:1").size and b.memory is None
    assert a.joules is None and "no energy counter" in a.no_joules
    assert (await bench.side.get(ended.id, "local")).round == ended, "as it is stored"


async def test_seed_and_temperature_are_fixed_and_a_pane_may_have_its_own(bench: Bench) -> None:
    panes = (Pane("a:1", "a"), Pane("a:1", "a hot", {"temperature": 1.5}), Pane("b:1", "b"))
    started = await bench.side.start(Round(("why?",), panes, options={"num_predict": None}), Caller())
    await bench.ended(started.id)
    told = [request.options for request in bench.models.asked]
    assert told == [{"seed": 1, "temperature": 0}, {"seed": 1, "temperature": 1.5}, {"seed": 1, "temperature": 0}]


async def test_with_one_slot_each_variant_answers_everything_before_the_next(bench: Bench) -> None:
    started = await bench.asked("a:1", "b:1", questions=("one?", "two?"))
    await bench.ended(started.id)
    assert [request.model for request in bench.models.asked] == ["a:1", "a:1", "b:1", "b:1"]
    assert bench.models.most == 1


async def test_with_slots_and_memory_the_panes_answer_together(bench: Bench) -> None:
    bench.machine.slots = 4
    bench.models.gates = {model: asyncio.Event() for model in ("a:1", "b:1", "c:1")}
    started = await bench.asked("a:1", "b:1", "c:1")
    await until(lambda: len(bench.models.now) == 3)
    for gate in bench.models.gates.values():
        gate.set()
    await bench.ended(started.id)


@pytest.mark.parametrize("why", ["memory", "asked for"])
async def test_without_memory_or_where_asked_for_they_go_one_after_the_other(why: str, bench: Bench) -> None:
    bench.machine.slots, bench.machine.fits = 4, why != "memory"
    await bench.ended((await bench.asked("a:1", "b:1", "c:1", apart=why == "asked for")).id)
    assert bench.models.most == 1


async def test_a_whole_conversation_carries_each_panes_own_answers(bench: Bench) -> None:
    context = (Turn("user", "hello"), Turn("assistant", "hi"))
    started = await bench.asked("a:1", "b:1", questions=("one?", "two?"), context=context, system="Be brief.")
    await bench.ended(started.id)
    last = cast(Any, bench.models.asked[-1].body["messages"])
    assert [turn["content"] for turn in last] == ["Be brief.", "hello", "hi", "one?", "b:1: one?", "two?"]


async def test_a_further_question_goes_to_all_panes(bench: Bench) -> None:
    started = await bench.asked("a:1", "b:1")
    await bench.ended(started.id)
    await bench.side.follow(started.id, "and then?", Caller())
    ended = await bench.ended(started.id)
    assert [[answer.text for answer in pane.answers] for pane in ended.panes] == [
        ["a:1: why?", "a:1: and then?"],
        ["b:1: why?", "b:1: and then?"],
    ]


async def test_all_panes_are_one_group_to_the_queue(bench: Bench) -> None:
    started = await bench.asked("a:1", "b:1", "c:1")
    await bench.ended(started.id)
    assert {caller.group for caller in bench.models.callers} == {f"round {started.id}"}
    assert len({caller.trace.id for caller in bench.models.callers}) == 3


async def test_what_nobody_looks_at_lets_others_go_first(bench: Bench) -> None:
    bench.models.gates["a:1"] = asyncio.Event()
    started = await bench.asked("a:1", "b:1")
    await until(lambda: bench.models.now)
    bench.clock.advance(31)
    bench.models.gates["a:1"].set()
    await until(lambda: not bench.side.active(started.id))
    assert [caller.priority for caller in bench.models.callers] == [Priority.INTERACTIVE, Priority.BATCH]


async def test_panes_that_shared_the_machine_say_so(bench: Bench) -> None:
    bench.machine.busy = 2
    started = await bench.asked("a:1", "b:1")
    ended = await bench.ended(started.id)
    assert ended.panes[0].answers[0].shared
    assert "something else" in ended.panes[0].answers[0].no_joules


async def test_a_cached_answer_has_no_speeds(bench: Bench) -> None:
    bench.models.cached = {"a:1"}
    ended = await bench.ended((await bench.asked("a:1", "b:1")).id)
    assert [pane.answers[0].measured for pane in ended.panes] == [False, True]
    assert ended.panes[0].answers[0].answer.cached_age == 60.0


async def test_the_fair_run_asks_one_after_the_other_past_the_cache_and_with_a_new_beginning(bench: Bench) -> None:
    bench.machine.slots = 4
    started = await bench.asked("a:1", "b:1")
    await bench.ended(started.id)
    before, bench.models.most = len(bench.models.asked), 0
    await bench.side.measure(started.id, Caller())
    ended = await bench.ended(started.id)
    runs, callers = bench.models.asked[before:], bench.models.callers[before:]
    assert bench.models.most == 1 and [run.model for run in runs] == ["a:1"] * 3 + ["b:1"] * 3
    assert all(caller.cache_mode is CacheMode.BYPASS for caller in callers)
    beginnings = [cast(Any, run.body["messages"])[0]["content"] for run in runs]
    assert len(set(beginnings)) == len(runs), "no two begin alike"
    assert runs[0].options["num_predict"] == 8, "the first one warms up"
    assert ended.panes[0].fair and ended.panes[0].fair.n == 2 and ended.panes[0].fair.decode_tps == (50.0, 50.0)
    assert ended.panes[0].fair.prefill_tps == (400.0, 400.0)
    assert ended.panes[0].answers[0].text == "a:1: why?", "the answers stay"


async def test_energy_is_counted_for_what_had_the_machine_to_itself(bench: Bench, tmp_path: Path) -> None:
    counter = tmp_path / "power" / "intel-rapl:0" / "energy_uj"
    counter.parent.mkdir(parents=True)
    counter.write_text("0")
    ask = bench.models.ask

    async def drawing(request: GenerationRequest, caller: Caller) -> AsyncIterator[Chunk]:
        async for chunk in ask(request, caller):
            counter.write_text(str(int(counter.read_text()) + 10_000_000))  # 30 J an answer of three pieces
            yield chunk

    bench.models.ask = drawing  # type: ignore[method-assign]
    asker = PaneAsker(cast(Any, bench.models), bench.machine, EnergyMeter(tmp_path / "power"))
    bench.side = SideBySide(asker, bench.machine, bench.store, bench.history.adopt, lambda: 0, bench.clock)
    started = await bench.asked("a:1", "b:1")
    await bench.ended(started.id)
    await bench.side.measure(started.id, Caller())
    [answer] = (pane := (await bench.ended(started.id)).panes[0]).answers
    assert answer.joules == pytest.approx(30) and answer.joules_per_token == pytest.approx(3.0)
    assert pane.fair and pane.fair.joules_per_token == pytest.approx((3.0, 3.0))


async def test_an_error_ends_one_pane_and_going_on_asks_only_that_one(bench: Bench) -> None:
    bench.models.failures["a:1"] = [GenerationFailed("one", "it broke")]
    started = await bench.asked("a:1", "b:1")
    ended = await bench.ended(started.id)
    assert [pane.answers[0].state for pane in ended.panes] == [MessageState.ERROR, MessageState.COMPLETE]
    assert "it broke" in ended.panes[0].answers[0].answer.error and ended.panes[0].answers[0].text == "a:1: "
    before = len(bench.models.asked)
    await bench.side.go_on(started.id, Caller())
    assert (await bench.ended(started.id)).complete
    assert [request.model for request in bench.models.asked[before:]] == ["a:1"]


async def test_a_bug_ends_one_pane_and_the_others_go_on(bench: Bench) -> None:
    bench.machine.slots = 4
    bench.models.failures["a:1"] = [ValueError("a bug")]
    ended = await bench.ended((await bench.asked("a:1", "b:1")).id)
    assert [pane.answers[0].state for pane in ended.panes] == [MessageState.ERROR, MessageState.COMPLETE]
    assert "the log has the details" in ended.panes[0].answers[0].answer.error


async def test_a_full_queue_is_waited_for(bench: Bench) -> None:
    bench.models.failures["a:1"] = [QueueFull(1, 1, retry_after=0.01)]
    assert (await bench.ended((await bench.asked("a:1", "b:1")).id)).complete


async def test_what_waits_for_a_full_queue_can_be_stopped(bench: Bench) -> None:
    bench.models.failures["a:1"] = [QueueFull(1, 1, retry_after=600.0)]
    started = await bench.asked("a:1", "b:1")
    await until(lambda: bench.models.asked and not bench.models.now)
    await bench.side.stop(started.id)
    [answer] = (await bench.side.get(started.id, "local")).round.panes[0].answers
    assert answer.state is MessageState.STOPPED


async def test_stop_keeps_what_was_answered(bench: Bench) -> None:
    bench.models.gates["a:1"] = asyncio.Event()
    started = await bench.asked("a:1", "b:1")
    await until(lambda: bench.models.now)
    await bench.side.stop(started.id)
    view = await bench.side.get(started.id, "local")
    assert not view.running and not bench.models.now
    assert view.round.panes[0].answers[0].state is MessageState.STOPPED
    assert view.round.panes[0].answers[0].text == "a:1: " and view.round.panes[1].answers == ()


async def test_what_was_taken_is_there_after_a_kill_and_can_go_on(bench: Bench) -> None:
    bench.models.gates["a:1"] = asyncio.Event()
    started = await bench.asked("a:1", "b:1", questions=("one?", "two?"))
    await until(lambda: bench.models.now)
    killed, bench.side = bench.side, bench.again()  # the old process writes nothing more: it is looked at, not ended
    found = (await bench.side.get(started.id, "local")).round
    assert found.questions == ("one?", "two?") and len(found.panes) == 2
    bench.models.gates["a:1"].set()
    await killed.close()
    await bench.side.go_on(started.id, Caller())
    assert (await bench.ended(started.id)).complete


async def test_a_page_that_attaches_late_sees_everything_and_leaving_stops_nothing(bench: Bench) -> None:
    bench.models.gates["a:1"] = asyncio.Event()
    started = await bench.asked("a:1", "b:1")
    await until(lambda: bench.models.now)
    views: list[RoundView] = []
    async for view in bench.side.attach(started.id, "local"):
        views.append(view)
        if view.round.panes[0].answers:
            break
    assert views[-1].round.panes[0].answers[0].text == "a:1: " and views[-1].phases[1].name == "turn"
    bench.models.gates["a:1"].set()
    assert (await bench.ended(started.id)).complete


async def test_keeping_an_answer_makes_a_conversation_with_that_variant(bench: Bench) -> None:
    started = await bench.asked("a:1", "b:1", system="Be brief.", context=(Turn("user", "hello"),))
    await bench.ended(started.id)
    chat_id = await bench.side.keep(started.id, 1, "local")
    chat = await bench.history.get(chat_id, "local")
    assert (chat.model, chat.system, chat.options) == ("b:1", "Be brief.", {"seed": 1, "temperature": 0})
    assert [(m.role, m.content) for m in chat.messages] == [
        ("user", "hello"), ("user", "why?"), ("assistant", "b:1: why?"),
    ]  # fmt: skip
    assert chat.messages[-1].usage == USAGE and chat.title == "why?"
    assert (await bench.side.get(started.id, "local")).round.kept == chat_id


async def test_a_part_that_is_kept_while_it_grows_is_no_answer_that_runs(bench: Bench) -> None:
    bench.models.gates["a:1"] = asyncio.Event()
    started = await bench.asked("a:1", "b:1")
    await until(lambda: bench.models.now)
    chat = await bench.history.get(await bench.side.keep(started.id, 0, "local"), "local")
    assert chat.messages[-1].content == "a:1: " and chat.messages[-1].state is MessageState.STOPPED
    with pytest.raises(BadRequest, match="no answer to keep"):
        await bench.side.keep(started.id, 1, "local")
    bench.models.gates["a:1"].set()
    assert (await bench.ended(started.id)).kept == chat.id


async def test_rounds_are_listed_deleted_and_bounded(bench: Bench, tmp_path: Path) -> None:
    bench.store = RoundStore(tmp_path / "few", kept=2)
    bench.side = bench.again()
    for question in ("one?", "two?", "three?"):
        bench.clock.advance(1)
        await bench.ended((await bench.asked("a:1", "b:1", questions=(question,))).id)
    kept = await bench.side.rounds("local")
    assert [one.title for one in kept] == ["three?", "two?"] and not await bench.side.rounds("somebody")
    await bench.side.delete(kept[0].id, "local")
    with pytest.raises(RoundNotFound):
        await bench.side.get(kept[0].id, "local")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (Round(("why?",), (Pane("a", "a"),)), "2 to 6"),
        (Round(("why?",), tuple(Pane(str(n), "") for n in range(MOST_PANES + 1))), "2 to 6"),
        (Round((" ",), (Pane("a", "a"), Pane("b", "b"))), "write something"),
        (Round(("why?",), (Pane("a", "a"), Pane("a", "a"))), "same variant"),
        (Round(("x" * 300_000,), (Pane("a", "a"), Pane("b", "b"))), "300,000 characters"),
    ],
)
async def test_what_cannot_be_asked_is_told_before_anything_is_sent(wrong: Round, told: str, bench: Bench) -> None:
    with pytest.raises(BadRequest, match=told):
        await bench.side.start(wrong, Caller())
    assert not bench.models.asked and not await bench.side.rounds("local")


async def test_nothing_is_taken_at_the_end(bench: Bench) -> None:
    await bench.side.close()
    with pytest.raises(Draining):
        await bench.asked("a:1", "b:1")


async def test_a_file_that_changed_is_read_anew(bench: Bench) -> None:
    started = await bench.asked("a:1", "b:1")
    ended = await bench.ended(started.id)
    assert (await bench.side.rounds("local")) == (ended,)
    RoundStore(bench.store._folder).write(replace(ended, kept="somewhere"))
    assert (await bench.side.rounds("local"))[0].kept == "somewhere"


@pytest.mark.parametrize("text", ["", "{}", '{"panes": 3}', "[1]", '{"id": "x", "panes": [], "questions": 4}'])
async def test_a_file_that_cannot_be_read_takes_nothing_else_down(text: str, bench: Bench, tmp_path: Path) -> None:
    started = await bench.asked("a:1", "b:1")
    await bench.ended(started.id)
    (tmp_path / "rounds" / ("f" * 32 + ".json")).write_text(text)
    assert [one.id for one in await bench.side.rounds("local")] == [started.id]
