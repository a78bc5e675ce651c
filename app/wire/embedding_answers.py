"""Embeddings as a server writes them: float32 numbers in Go's shortest form, the vectors as JSON made beforehand.

A vector is written as soon as it is there, so that an answer of many vectors never has to be kept as Python floats.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from app.wire.go_json import dumps, number, quote
from app.wire.ollama_answers import Costs


def vector_json(values: array[float]) -> bytes:
    """`values` (float32) as a JSON array, each number in the fewest digits that give it back.

    Raises `JsonError` for NaN and infinities.
    """
    numbers = values.tolist()
    texts = ["" for _ in numbers]
    unsure = list(range(len(numbers)))
    for digits in (6, 7, 8, 9):  # nine are always enough, and nearly all need seven or eight
        tried = _formatted([numbers[index] for index in unsure], digits)
        back = array("f", map(float, tried))
        for index, text in zip(unsure, tried, strict=True):
            texts[index] = text
        unsure = [index for index, read in zip(unsure, back, strict=True) if read != numbers[index]]
        if not unsure:
            break
    return f"[{','.join(text if text.lstrip('-')[:2] == '0.' else number(float(text)) for text in texts)}]".encode()


def _formatted(numbers: Sequence[float], digits: int) -> list[str]:
    """All at once: a tenth of the time that one by one takes."""
    return (",".join([f"%.{digits}g"] * len(numbers)) % tuple(numbers)).split(",") if numbers else []


def embed_body(model: str, vectors: Sequence[bytes], costs: Costs | None = None) -> bytes:
    """The answer of /api/embed; without `costs` that of a request which only loads."""
    head = f'{{"model":{quote(model)},"embeddings":['.encode()
    tail = dumps(costs.fields())[1:] if costs else b"}"
    return head + b",".join(vectors) + (b"]," if tail != b"}" else b"]") + tail


def embedding_body(values: Sequence[float]) -> bytes:
    """The answer of /api/embeddings, whose numbers are float64."""
    return dumps({"embedding": list(values)})
