"""Aliases over fake hosts: chains, what hinders a target, hosts that go away, switching at random meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.errors import (
    BadRequest,
    GenerationFailed,
    HostProtocolError,
    HostRefused,
    HostTimeout,
    HostUnreachable,
    LoupeError,
    ModelNotFound,
    ModelNotLocal,
    NoHealthyHost,
    QueueFull,
    StoreError,
)
from app.core.generation import Chunk, GenerationRequest, Json
from app.services import aliases as aliases_module
from app.services.alias_route import AliasRoute, ContextExceeded, may_fall_back, overflow_of
from app.services.alias_targets import Choice, NoTargetAnswers, Wish
from app.services.alias_values import Guard, alias_json, members_of, read_alias, read_target, with_defaults
from app.services.aliases import Aliases
from app.services.chat import Caller, ChatService
from app.services.host_pool import HostPool
from app.services.request_queue import RequestQueue
from app.services.response_cache import ResponseCache
from app.services.retry_policy import RetryBudget
from app.services.telemetry import Overflow, Telemetry
from tests.fakes import FakeBackend, FakeClock, answer, chat, model_info, settle

pytestmark = pytest.mark.anyio
MODELS = ("a:1b", "b:1b", "c:1b")
COLD: dict[str, Json] = {"temperature": 0}


class NamingBackend(FakeBackend):
    """Answers with the name of the model that it was asked for."""

    async def stream(self, request: GenerationRequest) -> AsyncIterator[Chunk]:  # type: ignore[override]
        if not self._scripts and self.down is None:
            self.enqueue(*answer(request.model))
        async with aclosing(super().stream(request)) as chunks:
            async for chunk in chunks:
                yield chunk


@dataclass
class Rig:
    hosts: list[NamingBackend]
    pool: HostPool
    queue: RequestQueue
    aliases: Aliases
    telemetry: Telemetry
    chat: ChatService
    clock: FakeClock

    async def put(self, name: str, *targets: str, anyway: bool = False, **more: Json) -> None:
        await self.aliases.put(read_alias(name, {"targets": list(targets), **more}), anyway=anyway)

    def caller(self, **more: object) -> Caller:
        return Caller(trace=self.telemetry.trace(), **more)  # type: ignore[arg-type]

    async def read(self, request: GenerationRequest, caller: Caller | None = None) -> tuple[str, Caller]:
        caller = caller or self.caller()
        async with aclosing(self.chat.ask(request, caller)) as chunks:
            return "".join([piece.text async for piece in chunks]), caller


async def best_of(wish: Wish) -> Choice:
    if wish.family not in ("a", "*"):
        raise ModelNotFound(wish.family)
    return Choice(MODELS[:2], "a is the best")


@asynccontextmanager
async def rigged(folder: Path, *hosts: NamingBackend) -> AsyncIterator[Rig]:
    clock = FakeClock()
    pool = HostPool(hosts, clock, outage=0.0)
    queue = RequestQueue(pool, clock)
    pool.on_change(queue.poke)
    aliases, telemetry = Aliases(pool, folder, clock, best_of), Telemetry(clock)
    cache = ResponseCache(folder / "cache", 64 << 20, clock)
    route = AliasRoute(aliases.find, aliases.targets, pool, queue.pace.prompt_tokens)
    service = ChatService(cache, queue, pool, telemetry, RetryBudget(clock), route)
    await cache.start()
    await aliases.start()
    await pool.start()
    await settle()
    try:
        yield Rig(list(hosts), pool, queue, aliases, telemetry, service, clock)
        assert (queue.running, queue.waiting) == (0, 0), "something still holds a slot"
    finally:
        await service.close()
        await pool.stop()
        await cache.close()


def backend(name: str, *models: str, **more: int) -> NamingBackend:
    return NamingBackend(name, models=[model_info(one, one[0] * 64) for one in models], **more)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rigged(tmp_path, backend("one", *MODELS), backend("two", "a:1b")) as made:
        yield made


# Names and targets


@pytest.mark.parametrize(
    "text", ["a:1b", "hf.co/x/y:Q4_K_M", "family=a:1b", "best=a", "best=*", "a:1b@two", "best=*@one", "x@a-b.c"]
)
def test_a_target_is_written_as_it_is_read(text: str):
    assert read_target(f" {text} ").text == text


@pytest.mark.parametrize(
    "text", ["", "@two", "a@", "a b", "best=a b", "worst=a", "family=", "family=*", "a=b=c", "a@b@c", "a@b/c", "a@b c"]
)
def test_what_is_no_target_is_refused(text: str):
    with pytest.raises(BadRequest):
        read_target(text)


names = st.from_regex(r"[a-z0-9_][a-z0-9_.-]{0,12}(:[a-z0-9_][a-z0-9_.-]{0,8})?", fullmatch=True)
values = st.fixed_dictionaries(
    {"targets": st.lists(names.filter(lambda name: True), min_size=1, max_size=4)},
    optional={
        "options": st.fixed_dictionaries({}, optional={
            "temperature": st.floats(0, 2), "num_ctx": st.integers(1, 1 << 20), "stop": st.lists(st.text(), max_size=3),
        }),
        "system": st.text(max_size=50), "think": st.sampled_from([None, True, False, "low", "max"]),
        "keep_alive": st.sampled_from([None, 0, -1, "10m", 1.5]), "guard": st.sampled_from([*map(str, Guard)]),
        "note": st.text(max_size=20),
    },
)  # fmt: skip


@given(names, values)
def test_what_is_kept_is_read_back_as_it_was(name: str, body: dict[str, Json]):
    try:
        alias = read_alias(name, body, 5.0)
    except BadRequest:
        assert name.endswith((":cloud", ":local", "-cloud"))
        return
    assert read_alias(alias.name, members_of(alias_json(alias)), 5.0) == alias


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.text(max_size=30),
    st.dictionaries(
        st.sampled_from(["targets", "options", "system", "think", "keep_alive", "guard", "note", "x"]), json_values
    ),
)
def test_whatever_is_sent_is_an_alias_or_a_bad_request(name: str, body: dict[str, Json]):
    try:
        read_alias(name, body)
    except BadRequest as error:
        assert error.message


def test_defaults_never_touch_what_the_client_said():
    alias = read_alias("x", {"targets": ["a"], "options": {"top_k": 1, "seed": 2}, "think": True, "keep_alive": "1m"})
    asked = chat(options={"top_k": 9, "seed": None}, think=False, keep_alive=0)
    told = with_defaults(asked, "a", alias.defaults)
    assert told.options == {"top_k": 9, "seed": 2}
    assert (told.body["think"], told.body["keep_alive"], told.model) == (False, 0, "a")
    assert asked.body["options"] == {"top_k": 9, "seed": None}, "the request itself is never changed"
    assert "think" not in with_defaults(chat(), "a", alias.defaults, thinks=False).body


@pytest.mark.parametrize(
    ("error", "falls"),
    [
        (ModelNotFound("a"), True), (NoHealthyHost({}), True), (HostUnreachable("one"), True),
        (HostTimeout("one", "first token", 5), True), (HostProtocolError("one", "x"), True),
        (GenerationFailed("one", "x"), True), (ModelNotLocal("a"), True), (HostRefused("one", 500, "no memory"), True),
        (HostRefused("one", 503, "busy"), True), (HostRefused("one", 404, "gone"), True),
        (HostRefused("one", 400, "does not support tools"), False), (HostRefused("one", 403, "no"), False),
        (QueueFull(9, 9), False), (BadRequest("x"), False), (StoreError("x"), False),
    ],
)  # fmt: skip
def test_which_errors_lead_to_the_next_target(error: LoupeError, falls: bool):
    assert may_fall_back(error) is falls


RECORDED = (
    '{"error":{"code":400,"message":"request (910 tokens) exceeds the available context size (512 tokens), try '
    'increasing it","type":"exceed_context_size_error","n_prompt_tokens":910,"n_ctx":512}}'
)


@pytest.mark.parametrize(
    ("error", "over"),
    [
        (HostRefused("one", 400, RECORDED), Overflow(910, 512)),
        (HostRefused("one", 400, "request (9 tokens) exceeds the available context size (5 tokens)"), Overflow(9, 5)),
        (HostRefused("one", 400, "the prompt is longer than the context length currently"), Overflow(None, 77)),
        (HostRefused("one", 400, "the input length exceeds the context length"), Overflow(None, 77)),
        (HostRefused("one", 400, "does not support tools"), None), (HostRefused("one", 400, "[1]"), None),
        (HostRefused("one", 503, RECORDED), None), (BadRequest(RECORDED), None),
    ],
)  # fmt: skip
def test_what_a_host_says_of_a_prompt_that_does_not_fit(error: LoupeError, over: Overflow | None):
    assert overflow_of(error, 77) == over


# The way


async def test_chains_lead_through_with_the_outer_defaults_first(rig: Rig):
    await rig.put("inner", "c:1b", "a:1b", options={"top_k": 1, "seed": 3}, system="Inner.", guard="off")
    await rig.put("outer", "inner", options={"top_k": 2}, guard="off")
    text, caller = await rig.read(chat(model="outer"))
    asked = rig.hosts[0].requests[-1]
    assert (text, caller.trace.model, caller.trace.route.alias) == ("c:1b", "c:1b", "outer")
    assert asked.options == {"top_k": 2, "seed": 3} and asked.body["messages"][0]["content"] == "Inner."
    rig.hosts[0].model_list = [row for row in rig.hosts[0].model_list if row.name != "c:1b"]
    rig.clock.advance(2)
    rig.pool.look_again()
    await settle()
    text, caller = await rig.read(chat(model="outer"))
    assert (text, caller.trace.route.place) == ("a:1b", 2) and "c:1b" in caller.trace.route.reason


async def test_the_advisors_choice_is_followed_down_its_order(rig: Rig):
    await rig.put("best", "best=*", guard="off")
    assert (await rig.read(chat(model="best")))[0] == "a:1b"
    for host in rig.hosts:
        host.model_list = [row for row in host.model_list if row.name != "a:1b"]
    rig.clock.advance(2)
    rig.pool.look_again()
    await settle()
    assert (await rig.read(chat(model="best")))[0] == "b:1b"


async def test_nothing_falls_back_once_the_answer_has_begun(rig: Rig):
    await rig.put("x", "b:1b", "a:1b", guard="off")
    rig.hosts[0].enqueue(answer("half")[0], HostProtocolError("one", "broke off"))
    with pytest.raises(HostProtocolError):
        await rig.read(chat(model="x"))
    assert [request.model for host in rig.hosts for request in host.requests] == ["b:1b"]


async def test_a_load_that_fails_goes_to_the_next_and_the_record_says_why(rig: Rig):
    await rig.put("x", "b:1b", "a:1b@two", guard="off")
    rig.hosts[0].enqueue(HostRefused("one", 500, "no memory for it"))
    text, caller = await rig.read(chat(model="x"))
    assert (text, caller.trace.host) == ("a:1b", "two")
    [record] = rig.telemetry.snapshot().recent
    [span] = [span for span in record.spans if span.name == "alias"]
    assert (record.model, span.attributes["alias"], span.attributes["place"]) == ("a:1b", "x", 2)
    assert "no memory" in span.attributes["reason"]


async def test_who_waits_for_the_only_host_goes_on_when_it_goes_away(rig: Rig):
    await rig.put("x", "a:1b@two", "b:1b", guard="off")
    gate = asyncio.Event()
    rig.hosts[1].enqueue(gate, *answer("held"))
    first = asyncio.create_task(rig.read(chat(model="a:1b"), rig.caller(host="two")))
    await settle()
    second = asyncio.create_task(rig.read(chat("other", model="x")))
    await settle()
    assert rig.queue.waiting == 1 and not second.done()
    rig.pool.drain("two")
    text, caller = await asyncio.wait_for(second, 30)
    assert (text, caller.trace.host) == ("b:1b", "one") and "went away" in caller.trace.route.reason
    gate.set()
    assert (await first)[0] == "held"


async def test_a_model_computed_elsewhere_is_passed_over(rig: Rig):
    info = replace(model_info("far:1b", "f" * 64), remote_host="https://ollama.com")
    rig.hosts[0].model_list.append(info)
    rig.pool.look_again()
    await settle()
    await rig.put("x", "far:1b", "a:1b", anyway=True, guard="off")
    text, caller = await rig.read(chat(model="x"))
    assert text == "a:1b" and "would send your words" in caller.trace.route.reason


async def test_an_old_ollama_is_guarded_by_an_estimate(rig: Rig):
    rig.hosts[0].told_version = ("0.9.6", "")
    rig.clock.advance(10)
    rig.pool.look_again()
    await asyncio.gather(*(host.check(rise=1) for host in rig.pool._hosts))
    await rig.put("x", "b:1b", guard="refuse", options={"num_ctx": 64})
    with pytest.raises(ContextExceeded, match="about .* tokens and the context holds 64"):
        await rig.read(chat("word " * 400, model="x"))
    assert (await rig.read(chat("word", model="x")))[0] == "b:1b"
    await rig.put("x", "b:1b", guard="warn", options={"num_ctx": 64})
    _, caller = await rig.read(chat("word " * 400, model="x"))
    assert caller.trace.route.cut.estimated


async def test_a_change_that_cannot_be_kept_is_refused_and_changes_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    await rig.put("x", "a:1b")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(aliases_module, "write_small", full)
    with pytest.raises(StoreError):
        await rig.put("x", "b:1b")
    with pytest.raises(StoreError):
        await rig.aliases.remove("x")
    assert rig.aliases.get("x").targets[0].name == "a:1b"


async def test_with_no_host_there_a_target_is_taken_only_anyway(tmp_path: Path):
    host = backend("one", "a:1b")
    host.down = HostUnreachable("one", "refused")
    async with rigged(tmp_path, host) as rig:
        with pytest.raises(BadRequest, match="cannot be looked for"):
            await rig.put("x", "a:1b")
        await rig.put("x", "a:1b", anyway=True)
        with pytest.raises(NoHealthyHost):
            await rig.read(chat(model="x"))


async def test_with_no_host_there_all_of_them_are_asked_once_for_all_targets(tmp_path: Path):
    host = backend("one", "a:1b")
    host.down = HostUnreachable("one", "refused")
    async with rigged(tmp_path, host) as rig:
        await rig.put("x", "a:1b", "b:1b", "c:1b", anyway=True)
        before = host.checks
        with pytest.raises(NoTargetAnswers) as told:
            await rig.read(chat(model="x"))
        assert (host.checks - before, told.value.status) == (1, 503)
        assert told.value.retry_after, "a host that is back is used soon"


# Switching

step = st.tuples(st.sampled_from(["switch", "ask", "ask", "cold"]), st.integers(0, 2))


@given(st.lists(step, min_size=4, max_size=24))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_switches_while_requests_run_never_mix(tmp_path_factory, plan: list[tuple[str, int]]):
    """Every answer is wholly one model's, the one that its trace names, and that one was meant while it ran."""

    async def play() -> None:
        async with rigged(tmp_path_factory.mktemp("switch"), backend("one", *MODELS), backend("two", "a:1b")) as rig:
            meant = [MODELS[0]]
            await rig.put("x", MODELS[0])
            asked: list[tuple[int, asyncio.Task[tuple[str, Caller]]]] = []
            for what, number in plan:
                if what == "switch":
                    await rig.put("x", MODELS[number], guard=str([*Guard][number]))
                    meant.append(MODELS[number])
                else:
                    options = COLD if what == "cold" else {}
                    request = chat(f"question {number}", model="x", options=options)
                    asked.append((len(meant) - 1, asyncio.create_task(rig.read(request))))
                    await asyncio.sleep(0)
            for since, task in asked:
                text, caller = await asyncio.wait_for(task, 30)
                assert text == caller.trace.model, "the answer of one model under the name of another"
                assert text in meant[since:], "a model that it did not mean any more"
            now = await rig.read(chat("question 0", model="x", options=COLD))
            assert now[0] == meant[-1]

    asyncio.run(play())
