"""The decode speed that this machine's memory allows beside the measured one, for the starter's whole ladder.

    python -m benchmarks.roofline [--rounds 8] [--tokens 96]

The embedded runtime alone, on the processor. A round measures the memory's bandwidth (as `python -m app check` does)
and one answer of each variant, in alternating order, by the host's own count of decoding. Allowed: the best bandwidth
of all rounds over the bytes of a token: weights as the check counts them, and what is kept of the conversation at the
mean length of the answer. Predicted: by the published speeds, from the measured one of the 16-bit variant.
"""

from __future__ import annotations

import argparse
import itertools
import json
from statistics import median
from typing import Any

from app.core.hosts import ModelDetail
from app.models.decode_reads import decode_reads
from app.models.gguf_file import read_gguf
from app.models.memory_facts import facts_of_file
from app.models.published_ladders import decode_ratio
from app.services.checking.bandwidth import MARGIN, decode_limit, read_bandwidth
from app.wire.answers import parse_show
from benchmarks import subjects
from benchmarks.harness import Report, summarise
from tests.served import Served, http, served_runtime
from tests.starter_cache import TAGS, linked_store, variant_gguf

FAMILY = "smollm2:135m-instruct-"
GB = 1e9
COUNTER = itertools.count()
TRIES = 30  # until an answer is long enough: one may end early, and a small model may repeat itself, which ends it
HEADS = ["variant", "MB a token", "allowed, tok/s", "measured, tok/s", "of it", "GB/s", "predicted, tok/s", "error", ""]


def post(host: Served, path: str, body: dict[str, Any]) -> bytes:
    status, content = http(host.url + path, body)
    assert status == 200, content
    return content


def answer(host: Served, tag: str, tokens: int) -> tuple[float, float]:
    """(tokens a second, tokens in the context on the way, in the mean)."""
    words = f"Number {next(COUNTER)}. Write a long story about a dog that finds a tree."
    options = {"num_predict": tokens, "num_ctx": 1024, "temperature": 0.8}
    body = {"model": FAMILY + tag, "prompt": words, "stream": False, "options": options}
    post(host, "/api/generate", {**body, "options": {**options, "num_predict": 4}})  # loaded and warm
    for _ in range(TRIES):
        status, content = http(host.url + "/api/generate", body)
        told = json.loads(content)
        if status == 200 and told["eval_count"] >= tokens // 2:
            return told["eval_count"] * 1e9 / told["eval_duration"], told["prompt_eval_count"] + told["eval_count"] / 2
    raise AssertionError(f"{tag} gave no answer of {tokens // 2} tokens in {TRIES} tries: {told}")


def detail_of(host: Served, tag: str) -> ModelDetail:
    return parse_show(post(host, "/api/show", {"model": FAMILY + tag, "verbose": True}))


def kept_a_token(tag: str) -> int:
    """Bytes of keys and values, in 16 bits, for each token of the context."""
    layers = facts_of_file(read_gguf(variant_gguf(tag))).layers or ()
    return sum(2 * (layer.key + layer.value) for layer in layers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=96)
    asked = parser.parse_args()
    report = Report("roofline", "What memory allows, and what is reached")
    speeds: dict[str, list[float]] = {tag: [] for tag in TAGS}
    bands: list[float] = []
    depths: list[float] = []
    with subjects.scratch() as folder, served_runtime(linked_store(folder / "store"), folder / "log") as host:
        host.wait_ready("/api/version")
        for number in range(asked.rounds):
            bands.append(read_bandwidth())
            for tag in TAGS if number % 2 == 0 else TAGS[::-1]:
                speed, depth = answer(host, tag, asked.tokens)
                speeds[tag].append(speed)
                depths.append(depth)
        details = {tag: detail_of(host, tag) for tag in TAGS}
    tell(report, bands, median(depths), speeds, details)
    report.finish()


def tell(
    report: Report, bands: list[float], depth: float, speeds: dict[str, list[float]], details: dict[str, ModelDetail]
) -> None:
    rows, first = [], TAGS[0]
    sizes = {tag: variant_gguf(tag).stat().st_size for tag in TAGS}
    usual = median(speeds[first])
    for tag in TAGS:
        read = decode_reads(details[tag], sizes[tag]) + round(depth * kept_a_token(tag))
        allowed, told = decode_limit(max(bands), read), summarise(speeds[tag])
        ratio = None if tag == first else decode_ratio(tag, sizes[tag], first, sizes[first])
        spread = f"{told.median:.1f} ({told.q1:.1f}–{told.q3:.1f})"
        rows.append([
            tag, f"{read / 1e6:.1f}", f"{allowed:.1f}", spread, f"{told.median / allowed:.0%}",
            f"{told.median * read / GB:.1f}", f"{usual * ratio:.1f}" if ratio else "",
            f"{usual * ratio / told.median - 1:+.0%}" if ratio else "",
            "above the limit: an error of measuring" if told.median > MARGIN * allowed else "",
        ])  # fmt: skip
    band = summarise(bands)
    report.table(f"{max(bands) / GB:.1f} GB/s read", HEADS, rows)
    report.say(
        f"n = {len(bands)} rounds; the bandwidth's median {band.median / GB:.1f} "
        f"({band.q1 / GB:.1f}–{band.q3 / GB:.1f}) GB/s. Mean context {depth:.0f} tokens."
    )


if __name__ == "__main__":
    main()
