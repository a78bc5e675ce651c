"""Row 19: two requests that differ in anything an answer may depend on never share an entry."""

from __future__ import annotations

import base64
import contextlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.core.generation import Endpoint, GenerationRequest, Json
from app.core.ports import SystemClock
from app.services import repeats
from app.services.cached_answer import cache_key
from proving.cache_rig import Layer, layer, replaced
from proving.promises import Run, promise
from tests.fakes import MODEL, answer, loaded_model, model_info

CARELESS = "num_ctx left out of the key"
WORDS = ("one", "One", "one ", "ein", "eins", "\u00e9", "e\u0301", "", "0")
OPTIONS = (
    "num_ctx",
    "num_predict",
    "top_k",
    "top_p",
    "min_p",
    "repeat_penalty",
    "stop",
    "mirostat",
    "num_gpu",
    "new_one",
)
FIELDS = ("format", "think", "tools", "logprobs", "truncate", "shift", "a_field_of_tomorrow")


@dataclass(frozen=True, slots=True)
class Case:
    """A request and everything around it that the answer depends on."""

    endpoint: Endpoint
    body: Mapping[str, Any]
    digest: str = "d" * 64
    version: str = "0.33.0"
    server: str = ""
    context: int = 4096
    principal: str = "local"

    @property
    def request(self) -> GenerationRequest:
        return GenerationRequest(self.endpoint, self.body)

    @property
    def around(self) -> tuple[Any, ...]:
        return self.digest, self.version, self.server, self.context


class Fixed(SystemClock):
    """Lists never grow old by themselves: the trials say when the pool looks."""

    def monotonic(self) -> float:
        return 1000.0


def some(draw: random.Random) -> Json:
    values: list[Json] = [0, 1, 1.0, True, False, None, "1", draw.randrange(9999), draw.random(), draw.choice(WORDS)]
    value = draw.choice(values)
    return draw.choice([value, value, [value], {draw.choice(WORDS): value}])


def case(draw: random.Random) -> Case:
    options: dict[str, Any] = {"temperature": 0}
    for name in draw.sample(OPTIONS, draw.randrange(4)):
        options[name] = draw.randrange(512, 9999) if name == "num_ctx" else some(draw)
    more: dict[str, Any] = {name: some(draw) for name in draw.sample(FIELDS, draw.randrange(3))}
    text = f"{draw.choice(WORDS)} {draw.randrange(10**6)}"
    image = base64.b64encode(draw.randbytes(6)).decode()
    if draw.random() < 0.5:
        turns: list[dict[str, Any]] = [
            {"role": draw.choice(["system", "assistant"]), "content": draw.choice(WORDS)},
            {"role": "user", "content": text},
        ]
        turns[-1] |= {"images": [image]} if draw.random() < 0.3 else {}
        return Case("chat", {"model": MODEL, "messages": turns, "options": options, **more})
    body = {"model": MODEL, "prompt": text, "options": options, "system": draw.choice(WORDS), "images": [image], **more}
    return Case("generate", body)


def _option(one: Case, draw: random.Random) -> Case:
    name = draw.choice(OPTIONS)
    value = draw.randrange(512, 9999) if name == "num_ctx" else some(draw)
    return replace(one, body={**one.body, "options": {**one.body["options"], name: value}})


def _field(one: Case, draw: random.Random) -> Case:
    return replace(one, body={**one.body, draw.choice(FIELDS): some(draw)})


def _text(one: Case, draw: random.Random) -> Case:
    """The last text with a letter, an accent or a space more; also one that looks the same."""
    more = draw.choice([" ", "\n", "\u200b", "\u0301", "x"])
    if one.endpoint == "generate":
        return replace(one, body={**one.body, "prompt": one.body["prompt"] + more})
    *before, last = one.body["messages"]
    return replace(one, body={**one.body, "messages": [*before, {**last, "content": last["content"] + more}]})


def _image(one: Case, draw: random.Random) -> Case:
    images = [base64.b64encode(draw.randbytes(6)).decode()]
    if one.endpoint == "generate":
        return replace(one, body={**one.body, "images": images})
    *before, last = one.body["messages"]
    return replace(one, body={**one.body, "messages": [*before, {**last, "images": images}]})


def _role(one: Case, draw: random.Random) -> Case:
    if one.endpoint == "generate":
        return replace(one, body={**one.body, "system": one.body["system"] + "!"})
    first, *rest = one.body["messages"]
    return replace(one, body={**one.body, "messages": [{**first, "role": "tool"}, *rest]})


def _num_ctx(one: Case, draw: random.Random) -> Case:
    now = one.body["options"].get("num_ctx", 0)
    return replace(one, body={**one.body, "options": {**one.body["options"], "num_ctx": now + draw.randrange(1, 2048)}})


def _context(one: Case, draw: random.Random) -> Case:
    """The host's own context, which is in force where the request names none."""
    return _num_ctx(one, draw) if "num_ctx" in one.body["options"] else replace(one, context=draw.randrange(5000, 9999))


MUTATIONS: tuple[Callable[[Case, random.Random], Case], ...] = (
    _option, _field, _text, _image, _role, _num_ctx,
    lambda one, draw: replace(one, digest=f"{draw.getrandbits(256):064x}"),
    lambda one, draw: replace(one, version=f"0.33.{draw.randrange(1, 99)}"),
    lambda one, draw: replace(one, server=f"loupe-runtime/{draw.randrange(9)}"),
    _context,
    lambda one, draw: replace(one, principal=f"user {draw.randrange(9)}"),
)  # fmt: skip


def told(one: Case) -> str:
    """What differs between two cases, as text: 1, 1.0 and True are different requests."""
    return repr(one)


async def _place(rig: Layer, one: Case, before: Case | None) -> None:
    if before is not None and before.around == one.around:
        return
    rig.host.model_list = [model_info(digest=one.digest)]
    rig.host.loaded_list = [loaded_model(digest=one.digest, context=one.context)]
    rig.host.told_version = (one.version, one.server)
    await rig.look()
    await rig.pool.learn_context(await rig.pool.resolve(MODEL))


def _without_num_ctx(request: GenerationRequest, **about: Any) -> str:
    """The key of a well-known proxy, which takes the fields that it knows."""
    options = {name: value for name, value in request.options.items() if name != "num_ctx"}
    return cache_key(request.with_body(options=options), **{**about, "context": None})


@promise(
    19,
    "No wrong cache hit",
    section="cache",
    figure="0 hits in 10,000 pairs of requests that differ in one thing: an option, a field (unknown ones too), a "
    "text, an image, a role, the digest, the host's version or kind, the context, the user",
    controls=(CARELESS,),
)
async def cache_keys(run: Run) -> None:
    """The first of each pair is answered and kept; asked again it has to be a hit. The second has to reach the host."""
    careless = replaced(repeats, "cache_key", _without_num_ctx) if run.off else contextlib.nullcontext()
    with careless:
        async with layer(run.folder / "cache", clock=Fixed()) as rig:
            before: Case | None = None
            for number in range(run.scale(short=200, full=10_000)):
                one = case(run.random)
                other = run.random.choice(MUTATIONS)(one, run.random)
                while told(one) == told(other):
                    other = run.random.choice(MUTATIONS)(one, run.random)
                await _place(rig, one, before)
                rig.host.enqueue(*answer(f"answer {number}"))
                await rig.ask(one.request, one.principal)
                await rig.kept()
                again = await rig.ask(one.request, one.principal)
                await _place(rig, other, one)
                before = other
                rig.host.enqueue(*answer(f"another {number}"))
                outcome, text = await rig.ask(other.request, other.principal)
                await rig.kept()
                run.require(again == ("hit", f"answer {number}"), f"asked again, {one} was {again}")
                run.trial(text == f"another {number}", f"{outcome} for {other} after {one}")
                if text != f"another {number}":
                    rig.host._scripts.clear()
