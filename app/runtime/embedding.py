"""/api/embed and /api/embeddings.

Source: protocol 2.9 and 2.10, and the recordings embed*, embeddings*, missing_embed*, no_model_embeddings.
"""

from __future__ import annotations

import json
import math
import time
from array import array
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.core.errors import BadRequest, HostRefused, ModelNotFound
from app.core.generation import Json
from app.runtime.embedding_inputs import TOO_LONG, EmbeddingInputs
from app.runtime.library import Library, LocalModel
from app.runtime.model_store import not_found_in_quotes
from app.runtime.options import asked_limits, context_shift, read_options
from app.runtime.runners import Runner
from app.runtime.scheduler import Scheduler
from app.runtime.settings import RuntimeSettings
from app.runtime.web import Answer, Call, json_answer
from app.runtime.worker_client import Vector
from app.wire.embedding_answers import embed_body, embedding_body, vector_json
from app.wire.go_duration import keep_alive_ns
from app.wire.model_names import ModelName, parse_reference
from app.wire.ollama_answers import Costs
from app.wire.requests import decode

NO_EMBEDDINGS = "This server does not support embeddings. Start it with `--embeddings`"
RANKS = "{} ranks pairs of texts and gives no embeddings; use a model whose pooling type is not rank"
NOT_FINITE = "embedding contains NaN or Inf values"
ANSWER_LIMIT = 512 << 20  # bytes of one answer; Ollama has no limit, and this machine's memory has one
_NUMBER_BYTES = 12  # what one number of a vector takes in an answer
_SHORTEST = 1e-12  # a vector shorter than this is not made any longer than that
_TRY_PULLING = ", try pulling it first"
_LENGTH_ERRORS = (
    "too large",
    "context size",
    "context length",
    "physical batch size",
    "exceeds the available context",
)


class Embedding:
    """Handlers of the embedding routes."""

    def __init__(self, library: Library, scheduler: Scheduler, settings: RuntimeSettings) -> None:
        self._library, self._scheduler, self._settings = library, scheduler, settings

    async def embed(self, call: Call) -> Answer:
        started = time.monotonic_ns()
        body = decode("EmbedRequest", call.body)
        name = str(body.get("model") or "")
        if not name.strip():
            raise ModelNotFound(name)
        reference = parse_reference(name)
        texts = _texts(body.get("input"))
        async with self._loaded(reference, name, body) as loaded:
            ready = time.monotonic_ns()
            if not texts:
                return json_answer(embed_body(name, []))
            loaded.check_use(status=501)
            loaded.check_size(len(texts))
            vectors, tokens = [], 0
            for text in texts:
                vector = await loaded.within_context(text, truncate=body.get("truncate") is not False)
                vectors.append(vector_json(_wanted(vector.values, body.get("dimensions"))))
                tokens += vector.tokens
            costs = Costs(total=time.monotonic_ns() - started, load=ready - started, prompt_tokens=tokens)
            return json_answer(embed_body(name, vectors, costs))

    async def embeddings(self, call: Call) -> Answer:
        body = decode("EmbeddingRequest", call.body)
        name = str(body.get("model") or "")
        if not name.strip():
            raise BadRequest("model is required", "model")
        async with self._loaded(parse_reference(name), name, body) as loaded:
            if not (prompt := str(body.get("prompt") or "")):
                return json_answer(embedding_body(()))
            loaded.check_use(status=500)
            try:
                vector = await loaded.as_it_is(prompt)
            except (BadRequest, HostRefused) as error:  # on this route every refusal is the server's own fault
                raise HostRefused("worker", 500, error.message) from error
            return json_answer(embedding_body(vector.values))

    @asynccontextmanager
    async def _loaded(self, reference: ModelName, name: str, body: Mapping[str, Json]) -> AsyncIterator[_Loaded]:
        """Embedding requests load the model before anything else, also where they are refused afterwards."""
        try:
            model = self._library.open(reference)
        except ModelNotFound:
            raise not_found_in_quotes(name, _TRY_PULLING) from None
        asked = body.get("options")
        shift = context_shift(None, model.config)
        _, launch = read_options(model.parameters, asked, self._settings, shift=shift, pools=model.pools)
        async with self._scheduler.runner(model, launch, keep_alive_ns(body.get("keep_alive"))) as runner:
            num_ctx, num_batch = asked_limits(model.parameters, asked, self._settings)
            yield _Loaded(model, runner, EmbeddingInputs(model, runner.worker.running, num_ctx), num_batch)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A model in service, for one request. `num_batch` is what was asked for, in tokens."""

    model: LocalModel
    runner: Runner
    inputs: EmbeddingInputs
    num_batch: int

    def check_use(self, *, status: int) -> None:
        """Raises what a worker without embeddings says; and of a model that ranks, whose numbers are no vector."""
        if not self.model.pools:
            raise HostRefused("worker", status, NO_EMBEDDINGS)
        if self.model.ranks:
            raise HostRefused("worker", status, RANKS.format(self.model.name.shortest))

    def check_size(self, count: int) -> None:
        """Raises `BadRequest` for more inputs than one answer can hold."""
        width = self.model.gguf.own_number("embedding_length") if self.model.gguf else None
        most = ANSWER_LIMIT // (_NUMBER_BYTES * max(width or 0, 1))
        if count > most:
            raise BadRequest(f"{count} inputs are too many for one request; send at most {most} at a time", "input")

    async def within_context(self, text: str, *, truncate: bool) -> Vector:
        """The embedding of `text`, cut to what the model can take where `truncate` says so."""
        if not truncate:
            return await self._embedded(await self.inputs.checked(text))
        text = await self.inputs.fitting(text)
        try:
            return await self._embedded(text)
        except _InputTooLong:
            return await self._embedded(await self.inputs.cut_to(text, self.num_batch))

    async def as_it_is(self, text: str) -> Vector:
        return await self._embedded(await self.inputs.sendable(text))

    async def _embedded(self, text: str) -> Vector:
        """One input at a time, and others' in between: whoever leaves leaves one input behind."""
        try:
            async with self.runner.slot():
                vector = await self.runner.worker.running.embed(text, raw=_is_raw(self.model))
        except HostRefused as error:
            raise _explained(error) from error
        if not all(map(math.isfinite, vector.values)):
            raise BadRequest(NOT_FINITE, "input")
        return vector


class _InputTooLong(BadRequest):
    """The worker found an input too long for its batch or its context."""


def _explained(error: HostRefused) -> BadRequest | HostRefused:
    """What a worker said, without the JSON around it."""
    text = error.message
    try:
        said = json.loads(text)["error"]
        text = str(said["message"] if isinstance(said, dict) else said)
    except (ValueError, KeyError, TypeError):
        pass
    if any(sign in text.lower() for sign in _LENGTH_ERRORS):
        return _InputTooLong(TOO_LONG, "input")
    return HostRefused("worker", error.status, text)


def _is_raw(model: LocalModel) -> bool:
    """Whether the legacy route gives vectors of this model in the length that pooling leaves them."""
    if model.gguf is None:
        return False
    own = model.gguf.metadata.get(f"{model.gguf.architecture}.normalize_embeddings")
    if model.gguf.architecture == "bert":
        return model.gguf.text("tokenizer.ggml.model") not in (None, "bert") or own is False
    return model.gguf.architecture in ("nomic-bert", "nomic-bert-moe") and own is not True


def _wanted(values: array[float], dimensions: Json) -> array[float]:
    """The first `dimensions` numbers (all, where that says nothing sensible), as a vector of length 1."""
    whole = _normalised(values)
    if isinstance(dimensions, int) and 0 < dimensions < len(whole):
        return _normalised(whole[:dimensions])
    return whole


def _normalised(values: array[float]) -> array[float]:
    length = max(math.sqrt(math.fsum(value * value for value in values)), _SHORTEST)
    return array("f", [value / length for value in values])


def _texts(value: Json) -> list[str]:
    """`input` of an embedding request. Raises `BadRequest` with Ollama's sentence."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [value]
    texts = [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
    if not isinstance(value, list) or len(texts) != len(value):
        raise BadRequest("invalid input type", "input")
    return texts
