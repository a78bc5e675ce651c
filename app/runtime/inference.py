"""/api/generate and /api/chat."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from app.core.errors import LoupeError
from app.core.generation import Json
from app.runtime.answering import Ended, answer
from app.runtime.generation import Generator, Loaded
from app.runtime.library import Library, LocalModel
from app.runtime.preparation import Prepared, maker_for, prepare, prompt_text
from app.runtime.scheduler import Scheduler
from app.runtime.settings import RuntimeSettings
from app.runtime.web import Answer, Call, Stream, Whole, json_answer
from app.runtime.worker_client import Final
from app.wire.ollama_answers import AnswerWriter, Costs, Said
from app.wire.requests import decode


class Inference:
    """Handlers of the generating routes."""

    def __init__(self, library: Library, scheduler: Scheduler, settings: RuntimeSettings) -> None:
        self._generator = Generator(library, scheduler, settings)

    async def generate(self, call: Call) -> Answer | Stream:
        return await self._run(decode("GenerateRequest", call.body), chat=False)

    async def chat(self, call: Call) -> Answer | Stream:
        return await self._run(decode("ChatRequest", call.body), chat=True)

    async def _run(self, body: Mapping[str, Json], *, chat: bool) -> Answer | Stream:
        model = self._generator.find(body, chat=chat)
        writer = AnswerWriter(str(body["model"]), chat=chat)
        if self._generator.is_unload(body, chat=chat):
            self._generator.unload(model)
            return json_answer(writer.bare("unload"))
        run = _Run(self._generator, model, body, writer, chat=chat)
        if body.get("stream") is not False:
            return Stream(run.lines(), lambda: run.late)
        async with aclosing(run.lines()) as lines:
            async for line in lines:
                if isinstance(line, Whole):
                    return json_answer(line.body)
        raise LoupeError("the answer has no end")


class _Run:
    """One generation as lines: streamed, or (`stream: false`) one whole answer at the end."""

    def __init__(
        self, generator: Generator, model: LocalModel, body: Mapping[str, Json], writer: AnswerWriter, *, chat: bool
    ) -> None:
        self._generator, self._model, self._body, self._writer, self._chat = generator, model, body, writer, chat
        self._streamed = body.get("stream") is not False
        self.late = False

    async def lines(self) -> AsyncGenerator[bytes | Whole, None]:
        async with self._generator.loaded(self._model, self._body, chat=self._chat) as loaded:
            if not self._body.get("messages" if self._chat else "prompt"):
                yield Whole(self._writer.bare("load"))
                return
            prepared = await prepare(loaded)
            if self._body.get("_debug_render_only") is True:
                text = await prompt_text(loaded, prepared)
                yield Whole(self._writer.rendered(text, len(prepared.images)))
                return
            self.late = True
            async with aclosing(self._answered(loaded, prepared)) as lines:
                async for line in lines:
                    yield line

    async def _answered(self, loaded: Loaded, prepared: Prepared) -> AsyncGenerator[bytes | Whole, None]:
        gathered: list[Said] = []
        ended: Ended | None = None
        async with aclosing(answer(loaded, prepared)) as parts:
            async for part in parts:
                if isinstance(part, Ended):
                    ended = part
                    break
                if self._streamed:
                    yield self._writer.piece(part)
                else:
                    gathered.append(part)
        if ended is None:
            raise LoupeError("the answer has no end")
        said = ended.said if self._streamed else Said.joined([*gathered, ended.said])
        wanted = not self._chat and not loaded.raw and prepared.prompt is not None
        context = await maker_for(loaded).context(f"{prepared.prompt}{ended.raw}") if wanted else []
        reason = "length" if ended.final.limited else "stop"
        record = self._writer.done(said, reason, _costs(loaded, ended.final), context)
        yield record if self._streamed else Whole(record)


def _costs(loaded: Loaded, final: Final) -> Costs:
    return Costs(
        total=time.monotonic_ns() - loaded.started,
        load=loaded.ready - loaded.started,
        prompt_tokens=final.prompt_tokens,
        prompt=final.prompt_ns,
        output_tokens=final.output_tokens,
        output=final.output_ns,
    )
