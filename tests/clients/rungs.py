"""What the scripts of the ladder have in common. Runs in the clients' own environment: standard library only.

A script calls `climb` with its rungs; each prints one line of JSON: what was tried, and whether it went. What is asked
for comes from the environment: OLLAMA_HOST, CHAT_MODEL, ENDLESS_MODEL (one that does not stop at temperature 0),
TOOLS_MODEL, EMBEDDING_MODEL (the last two may be absent); KEYED_HOST asks for the KEY, where there is one.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import os
import time
import traceback
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

HOST = os.environ["OLLAMA_HOST"]
CHAT, TOOLS = os.environ["CHAT_MODEL"], os.environ.get("TOOLS_MODEL", "")
EMBEDDING, ENDLESS = os.environ.get("EMBEDDING_MODEL", ""), os.environ["ENDLESS_MODEL"]
KEYED, KEY = os.environ.get("KEYED_HOST", ""), os.environ.get("KEY", "")
MISSING = "no-such-model:1b"
QUESTION = "What is the capital of France?"
WEATHER = "Weather in Paris?"
LONG_TOKENS = 100_000  # far more than are made before the slot must be free again
FREE_SECONDS = 30.0  # a deadline for a slot to be free, not a measure
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def knows_paris(text: str | None) -> None:
    assert text and "Paris" in text, f"the answer does not name Paris: {text!r}"


def knows_paris_in_pieces(pieces: Sequence[str | None]) -> None:
    told = [piece for piece in pieces if piece]
    assert len(told) > 3, f"{len(told)} pieces"
    knows_paris("".join(told))


def calls_the_tool(name: str | None, arguments: Any) -> None:
    given = json.loads(arguments) if isinstance(arguments, str) else dict(arguments)
    assert (name, given) == ("get_weather", {"city": "Paris"}), f"{name}({given})"


def are_near(one: Sequence[float], other: Sequence[float], unlike: Sequence[float]) -> None:
    """Two sentences of one meaning are nearer to each other than to a third."""

    def cosine(left: Sequence[float], right: Sequence[float]) -> float:
        return sum(a * b for a, b in zip(left, right, strict=True)) / math.hypot(*left) / math.hypot(*right)

    assert len(one) == len(other) == len(unlike) > 100
    assert cosine(one, other) > cosine(one, unlike)


NEAR = ("The cat sleeps on the sofa.", "A cat is asleep on the couch.", "Interest rates rose again in March.")


def is_free_again() -> None:
    """After a client has left: the only slot answers somebody else at once."""
    begun = time.monotonic()
    body = {"model": ENDLESS, "prompt": QUESTION, "stream": False, "options": {"num_predict": 1}}
    with urllib.request.urlopen(f"{HOST}/api/generate", json.dumps(body).encode(), timeout=60) as answer:
        assert json.loads(answer.read())["done"] is True
    waited = time.monotonic() - begun
    assert waited < FREE_SECONDS, f"the slot was free after {waited:.0f} s only"


def takes_the_key(ask: Callable[[str], object]) -> None:
    """`ask(key)` succeeds with the right key, and is refused with another."""
    ask(KEY)
    try:
        ask("a-wrong-key")
    except Exception as error:  # noqa: BLE001 - which class is the client's affair
        told = f"{error} {getattr(error, 'status_code', '')}".lower()
        assert "401" in told or "unauthorized" in told, told
        return
    raise AssertionError("a wrong key was taken")


Rung = Callable[[], Any]


def climb(client: str, **rungs: Rung | str) -> None:
    """Tries each rung; a text instead of a function says why the client has no such thing."""
    absent = {
        "tools": "" if TOOLS else "no model for it on this server",
        "embeddings": "" if EMBEDDING else "no model for it on this server",
        "key": "" if KEYED else "nothing asks for one here",
    }
    for ability, rung in rungs.items():
        result, detail = "ok", ""
        if isinstance(rung, str):
            result, detail = "-", rung
        elif absent.get(ability):
            result, detail = "-", absent[ability]
        else:
            try:
                done = rung()
                if inspect.isawaitable(done):
                    asyncio.run(done)  # type: ignore[arg-type]
            except BaseException as error:  # noqa: BLE001 - told in the table
                result, detail = "failed", f"{type(error).__name__}: {error}"[:300]
                traceback.print_exc()
        print(json.dumps({"client": client, "ability": ability, "result": result, "detail": detail}), flush=True)
