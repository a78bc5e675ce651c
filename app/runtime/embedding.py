"""/api/embed and /api/embeddings."""

from __future__ import annotations

from collections.abc import Mapping

from app.core.errors import BadRequest, HostRefused, ModelNotFound
from app.core.generation import Json
from app.runtime.library import Library
from app.runtime.model_store import not_found_in_quotes
from app.runtime.options import read_options
from app.runtime.scheduler import Scheduler
from app.runtime.settings import RuntimeSettings
from app.runtime.web import Answer, Call, json_answer
from app.wire.go_duration import keep_alive_ns
from app.wire.go_json import dumps
from app.wire.model_names import ModelName, parse_reference
from app.wire.requests import decode

NO_EMBEDDINGS = "This server does not support embeddings. Start it with `--embeddings`"
_TRY_PULLING = ", try pulling it first"


class Embedding:
    """Handlers of the embedding routes."""

    def __init__(self, library: Library, scheduler: Scheduler, settings: RuntimeSettings) -> None:
        self._library, self._scheduler, self._settings = library, scheduler, settings

    async def embed(self, call: Call) -> Answer:
        body = decode("EmbedRequest", call.body)
        name = str(body.get("model") or "")
        if not name.strip():
            raise ModelNotFound(name)
        reference = parse_reference(name)
        texts = _texts(body.get("input"))
        await self._load_for_embedding(reference, name, body)
        if not texts:
            return json_answer(dumps({"model": name, "embeddings": []}))
        raise HostRefused("worker", 501, NO_EMBEDDINGS)

    async def embeddings(self, call: Call) -> Answer:
        body = decode("EmbeddingRequest", call.body)
        name = str(body.get("model") or "")
        if not name.strip():
            raise BadRequest("model is required", "model")
        await self._load_for_embedding(parse_reference(name), name, body)
        if not body.get("prompt"):
            return json_answer(dumps({"embedding": []}))
        raise HostRefused("worker", 500, NO_EMBEDDINGS)

    async def _load_for_embedding(self, reference: ModelName, name: str, body: Mapping[str, Json]) -> None:
        """Embedding requests load the model before anything else, also where they are refused afterwards."""
        try:
            model = self._library.open(reference)
        except ModelNotFound:
            raise not_found_in_quotes(name, _TRY_PULLING) from None
        _, launch = read_options(model.parameters, body.get("options"), self._settings)
        async with self._scheduler.runner(model, launch, keep_alive_ns(body.get("keep_alive"))):
            return


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
