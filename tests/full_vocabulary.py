"""The truth that bounds are tried against: texts forced on a worker of our own that tells the whole vocabulary.

    truth = await force_whole(path_of_gguf, texts)        # {text id: [WholePosition, …]}
    divergences(truth_of_reference, truth_of_variant)     # full KLD at every common place

A token's whole list is some 4 MB of JSON, so texts are few and short. Contexts are those of the measurement: the same
prompt, grammar and options, through the worker's own HTTP server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.comparison.divergence import TOP, Position
from app.comparison.forcing import FIXED_OPTIONS, positions
from app.comparison.results import ProbeText
from app.runtime.output_formats import grammar_of
from app.runtime.worker_process import WorkerConfig, start_worker


@dataclass(frozen=True, slots=True)
class WholePosition:
    """`position` as a host tells it with twenty alternatives; `logprobs` of all tokens, by id."""

    position: Position
    logprobs: np.ndarray


async def force_whole(model: Path, texts: Sequence[ProbeText]) -> dict[str, list[WholePosition]]:
    """Every position of the texts on the model file, in a worker as the runtime starts them."""
    config = WorkerConfig(
        model=model, num_ctx=4096, parallel=1, batch=512, threads=2, shift=True, mmap=True, load_timeout_s=60
    )
    worker = await start_worker(config, model.name)
    try:
        return {text.id: await _forced(worker.running, text) for text in texts}
    finally:
        await worker.kill()


async def _forced(client: Any, text: ProbeText) -> list[WholePosition]:
    body = {
        "prompt": text.prompt, "n_predict": len(text.answer) + 8, "stream": True, "cache_prompt": True,
        "temperature": 0.0, "top_k": FIXED_OPTIONS["top_k"], "grammar": grammar_of({"const": text.answer}),
        "n_probs": 1 << 20,
    }  # fmt: skip
    entries: list[dict[str, Any]] = []
    whole: list[np.ndarray] = []
    async for piece in client.complete(body):
        for told in getattr(piece, "probabilities", None) or ():
            entries.append({**told, "top_logprobs": told["top_logprobs"][:TOP]})
            whole.append(_by_id(told["top_logprobs"]))
    found = []
    at = 0  # `positions` leaves out the quotes around the text: entries are matched by what they are
    for position in positions(text.answer, entries):
        while entries[at]["token"] != position.token or entries[at]["logprob"] - position.logprob > 1e-5:
            at += 1
        found.append(WholePosition(position, whole[at]))
        at += 1
    return found


def _by_id(alternatives: Sequence[Mapping[str, Any]]) -> np.ndarray:
    made = np.full(len(alternatives), -np.inf)
    made[[one["id"] for one in alternatives]] = [max(one["logprob"], -1e6) for one in alternatives]
    assert np.isfinite(made).all(), "a token of the vocabulary is missing"
    return made


def divergences(
    reference: Mapping[str, Sequence[WholePosition]], variant: Mapping[str, Sequence[WholePosition]]
) -> dict[tuple[str, int], float]:
    """The full divergence at every place where both begin a token: by text and offset."""
    found = {}
    for text, ours in reference.items():
        theirs = {one.position.offset: one for one in variant[text]}
        for one in ours:
            if (other := theirs.get(one.position.offset)) is not None:
                p = np.exp(one.logprobs)
                found[text, one.position.offset] = float(np.sum(p * (one.logprobs - other.logprobs)))
    return found


def whole_texts(model: Path, texts: Sequence[ProbeText]) -> dict[str, list[WholePosition]]:
    """`force_whole` for callers without a loop."""
    return asyncio.run(force_whole(model, texts))
