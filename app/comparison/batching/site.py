"""A host set up one way, with a model to be measured there: waves of requests, and one request at a time as a `Bench`.

Requests go straight to the host and not through the queue, whose slots are what is measured. People go first all the
same: what runs is cut off as soon as somebody asks, its memory is given back, and it is begun anew in the calm.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from app.comparison.batching.study import Shape
from app.comparison.batching.waves import USUAL_WORDS, Visit, Wave, prompt_of, run_wave
from app.comparison.bench import Reply
from app.comparison.courtesy import CALM_SECONDS, LOOK_SECONDS, Courtesy
from app.core.errors import HostProtocolError, HostTimeout
from app.core.generation import GenerationRequest, Json, Usage
from app.core.hosts import LoadedModel, ModelDetail
from app.core.ports import Backend, Clock
from app.core.runtime_setup import RuntimeSetup
from app.services.watched_host import canonical

TRIES = 30
AGAIN = 2  # times that a disturbed measurement is made anew
WAVES = 2
WARM_TOKENS, WARM_PROMPT = 8, 128
UNLOAD_SECONDS = 60.0
T = TypeVar("T")


class Grounds(Protocol):
    """Where setups are measured: a host as it is, or runtimes of our own beside it, one for each setup."""

    async def open(self, setup: RuntimeSetup) -> Backend:
        """A host that answers, set up so. Raises `HostError`s."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Around:
    """`activity` is (requests that others have there, how many began so far)."""

    courtesy: Courtesy
    activity: Callable[[], tuple[int, int]]
    clock: Clock


class Site:
    """Satisfies `Bench`. `options` are those of every request. `disturbed` counts what other work spoiled even when
    measured again."""

    def __init__(self, backend: Backend, model: str, options: Mapping[str, Json], around: Around) -> None:
        self._backend, self._model, self._options, self._around = backend, model, dict(options), around
        self._warm = False
        self.words_per_token = USUAL_WORDS
        self.disturbed = 0

    async def visit(self, shape: Shape, count: int, waves: int = WAVES) -> Visit:
        """`waves` times `count` requests of that shape, which nothing else disturbed."""

        async def work() -> tuple[Wave, ...]:
            await self._ready()
            return tuple([
                await run_wave(
                    self._backend, self._model, shape, count, self._options, self._around.clock, self.words_per_token
                )
                for _ in range(waves)
            ])  # fmt: skip

        found, _ = await self._undisturbed(work, AGAIN)
        return Visit(found)

    async def ready(self) -> None:
        """The model is loaded and warm, and what a token is in words is known."""
        await self._undisturbed(self._ready, 0)

    async def _undisturbed(self, work: Callable[[], Coroutine[Any, Any, T]], again: int) -> tuple[T, bool]:
        """What `work` gives where nobody asked meanwhile, and whether other work ran beside it even at the last try."""

        async def boxed() -> tuple[T]:
            return (await work(),)

        for _ in range(TRIES):
            await self._around.courtesy.turn()
            before = self._around.activity()
            found = await self._around.courtesy.unless_pressed(boxed())
            if found is None:
                await self.unload(self._model)  # the memory is for those who ask
                continue
            if before[0] == 0 and self._around.activity()[1] == before[1]:
                return found[0], False
            if again <= 0:
                self.disturbed += 1
                return found[0], True
            again -= 1
        raise HostTimeout(self.host, "people kept going first", TRIES * CALM_SECONDS)

    async def _ready(self) -> None:
        if self._warm:
            return
        told = prompt_of(WARM_PROMPT, USUAL_WORDS)
        reply = await self._read({"prompt": told, "raw": True, "options": {"num_predict": WARM_TOKENS}})
        if reply.usage.prompt_tokens:
            self.words_per_token = min(2.0, len(told.split()) / reply.usage.prompt_tokens)
        self._warm = True

    # -- one request at a time ------------------------------------------------------------------------------------

    @property
    def host(self) -> str:
        return self._backend.address.name

    async def generate(self, model: str, body: Mapping[str, Json]) -> Reply:
        async def work() -> Reply:
            await self._ready()
            return await self._read(body)

        reply, disturbed = await self._undisturbed(work, 0)
        return reply if not disturbed else Reply(
            reply.text, reply.usage, reply.ttft, reply.seconds, reply.logprobs, reply.done_reason, reply.complete, True
        )  # fmt: skip

    async def _read(self, body: Mapping[str, Json]) -> Reply:
        asked = body.get("options")
        options: dict[str, Json] = {**(asked if isinstance(asked, dict) else {}), **self._options}
        request = GenerationRequest("generate", {**body, "model": self._model, "options": options, "think": False})
        clock = self._around.clock
        texts: list[str] = []
        logprobs: list[Mapping[str, Json]] = []
        began = clock.monotonic()
        first, usage, reason = 0.0, Usage(), ""
        async with aclosing(self._backend.stream(request)) as chunks:
            async for chunk in chunks:
                if chunk.text and not texts:
                    first = clock.monotonic() - began
                texts.append(chunk.text)
                logprobs += _logprobs(chunk.line)
                usage, reason = chunk.usage or usage, chunk.done_reason or reason
        return Reply("".join(texts), usage, first, clock.monotonic() - began, tuple(logprobs), reason)

    async def render(self, model: str, question: str, system: str = "") -> str:
        messages: list[Json] = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": question})
        body: dict[str, Json] = {
            "model": self._model, "messages": messages, "_debug_render_only": True, "think": False,
            "options": dict(self._options),
        }  # fmt: skip
        async with aclosing(self._backend.stream(GenerationRequest("chat", body))) as chunks:
            lines = [chunk.line async for chunk in chunks]
        info = json.loads(lines[-1]).get("_debug_info") if lines else None
        text = info.get("rendered_template") if isinstance(info, dict) else None
        if not isinstance(text, str):
            raise HostProtocolError(self.host, "it does not tell what its template makes of a question")
        return text

    async def load(self, model: str, options: Mapping[str, Json]) -> float:
        began = self._around.clock.monotonic()
        await self.ready()
        return self._around.clock.monotonic() - began

    async def unload(self, model: str) -> None:
        """Returns when it is not loaded any more."""
        self._warm = False
        await unload(self._backend, self._model, self._around.courtesy)

    async def loaded(self) -> Sequence[LoadedModel]:
        return await self._backend.loaded()

    async def show(self, model: str) -> ModelDetail:
        return await self._backend.show(self._model)

    async def version(self) -> tuple[str, str]:
        return await self._backend.version()


async def unload(backend: Backend, model: str, courtesy: Courtesy) -> None:
    """Returns when the host does not list the model any more. Raises `HostTimeout` after a minute."""
    async with aclosing(backend.stream(GenerationRequest("generate", {"model": model, "keep_alive": 0}))) as chunks:
        async for _ in chunks:
            continue
    waited = 0.0
    while any(canonical(row.name) == canonical(model) for row in await backend.loaded()):
        if waited >= UNLOAD_SECONDS:
            raise HostTimeout(backend.address.name, f"unloading {model}", UNLOAD_SECONDS)
        await courtesy.waited(LOOK_SECONDS)
        waited += LOOK_SECONDS


def _logprobs(line: bytes) -> list[Mapping[str, Json]]:
    if b'"logprobs"' not in line:
        return []
    told = json.loads(line).get("logprobs")
    return [entry for entry in told if isinstance(entry, dict)] if isinstance(told, list) else []
