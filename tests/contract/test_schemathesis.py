"""Requests made from /openapi.json, right and wrong ones, against what is served: no bug, and answers as described.

`LOUPE_API_EXAMPLES=200 python -m pytest tests/contract/test_schemathesis.py` tries longer.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.gateway.openapi.operations import JSON, OPERATIONS, Operation
from proving.stand import loupe
from tests.recordings import recording
from tests.stub_ollama import MODEL, Reply, StubOllama, served

pytestmark = [
    pytest.mark.xdist_group("api"),
    # what is served runs in a thread beside, and names its requests by the random module
    pytest.mark.filterwarnings("ignore:Do not use the `random` module"),
    pytest.mark.timeout(int(os.environ.get("LOUPE_API_EXAMPLES", "4")) * 60),
]
EXAMPLES = int(os.environ.get("LOUPE_API_EXAMPLES", "4"))
ELSEWHERE = {
    # endless, or they would stop what the others need, or reach for other machines: tests of their own try them
    *((one.method, one.path) for one in OPERATIONS if one.slow),
    ("POST", "/loupe/queue/pause"), ("POST", "/loupe/queue/drain"), ("POST", "/loupe/hosts"),
    ("DELETE", "/loupe/hosts/{name}"), ("POST", "/loupe/hosts/{name}/drain"), ("POST", "/loupe/keys"),
    ("DELETE", "/loupe/keys"), ("GET", "/loupe/sign-in"), ("POST", "/loupe/sign-in"), ("POST", "/loupe/sign-out"),
}  # fmt: skip
# Statuses from 500 up that are right: what the host said, what Ollama answers so too, what is off or not there.
EXPLAINED = re.compile(r"must be of type|must be of an array|invalid (format|options|duration)")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Loupe over a scripted host, on a loop of its own: requests are made from this thread."""
    ready, ended = threading.Event(), asyncio.Event()
    told: dict[str, Any] = {}

    async def run() -> None:
        stub = StubOllama()
        stub.on("/api/embed", Reply([b'{"model":"m","embeddings":[[0.5]]}'], content_type="application/json"))
        stub.on("/api/embeddings", Reply([b'{"embedding":[0.5]}'], content_type="application/json"))
        stub.on(
            "/api/show", Reply([json.dumps(_whole(recording("show").body)).encode()], content_type="application/json")
        )
        folder = tmp_path_factory.mktemp("api")
        async with served(stub) as host, loupe(folder, [host], allow_create=True, body_seconds=5) as product:
            told.update(url=product.url, loop=asyncio.get_running_loop())
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="served", daemon=True)
    thread.start()
    assert ready.wait(60)
    yield told["url"]
    told["loop"].call_soon_threadsafe(ended.set)
    thread.join(60)


@pytest.fixture(scope="module")
def api(address: str) -> Any:
    return schemathesis.openapi.from_url(f"{address}/openapi.json")


def _whole(shown: dict[str, Any]) -> dict[str, Any]:
    """Without the mark of a list that was cut."""
    return {**shown, "tensors": shown["tensors"][:2]}


def explained(response: Any) -> bool:
    """Whether a status from 500 up is no bug of ours."""
    text = response.text
    return "internal error (" not in text and (response.status_code != 500 or EXPLAINED.search(text) is not None)


@pytest.mark.parametrize(
    "told",
    [pytest.param(one, id=f"{one.method} {one.path}") for one in OPERATIONS if (one.method, one.path) not in ELSEWHERE],
)
def test_requests_made_from_the_description_find_no_bug(api: Any, told: Operation) -> None:
    operation = api[told.path][told.method]
    checks = [content_type_conformance, status_code_conformance, response_schema_conformance]

    @seed(8)
    @settings(
        max_examples=EXAMPLES, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
    def as_described(case: Any) -> None:
        if isinstance(case.body, dict) and "model" in case.body:
            case.body["model"] = MODEL
        tried(case)

    @seed(8)
    @settings(
        max_examples=EXAMPLES, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def otherwise(case: Any) -> None:
        tried(case)

    def tried(case: Any) -> None:
        response = case.call(timeout=30)
        if not explained(response):
            case.validate_response(response, checks=[not_a_server_error])
        case.validate_response(response, checks=checks)

    as_described()
    if told.query or (told.body and told.body_type == JSON):  # else nothing of it can be wrong
        otherwise()


@pytest.mark.parametrize(
    ("status", "text", "fine"),
    [
        (200, "{}", True), (400, '{"error":"no"}', True), (500, '{"error":"internal error (ab12cd34)"}', False),
        (503, '{"error":"internal error (ab12cd34)"}', False), (500, '{"error":"KeyError: 3"}', False),
        (500, '{"error":"option \\"seed\\" must be of type integer"}', True), (502, '{"error":"one is away"}', True),
    ],
)  # fmt: skip
def test_a_bug_is_not_explained_away(status: int, text: str, fine: bool) -> None:
    assert explained(SimpleNamespace(status_code=status, text=text)) is fine
