"""Row 15: whatever a model writes, and however its host cuts it into pieces, arrives as it was written."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from httpx._decoders import LineDecoder, TextDecoder
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from app.backends import ollama_http
from proving.cache_rig import replaced
from proving.promises import Run, promise
from proving.raw_host import listening
from proving.scripted_host import LINE_LIMIT, WAYS, Script, ScriptedHost, Way, chunked, fault, meaning, records
from proving.stand import Loupe, Outcome, ask, loupe

ITER_LINES = "lines as httpx's iter_lines splits them"
NASTY = (
    "nel \x85 here",
    "ls \u2028 ps \u2029",
    "ff \x0c vt \x0b fs \x1c",
    'quote " and \\ \r\n',
    "é ü 日本 👩‍👩‍👧",
    "\ufeff\u200b\ufffe",
)


_LETTERS = st.one_of(
    st.characters(exclude_categories=["Cs"]),
    st.sampled_from('\x85\u2028\u2029\x0b\x0c\x1c\x1d\x1e\r\n\t\0"\\/<>&\x7f\xa0\ufeff\ufffd\U0010ffff👩🏽‍🚀'),
)


@dataclass(frozen=True, slots=True)
class Case:
    """An answer's texts and where its body is cut (thousandths); none at all means at every byte."""

    pieces: tuple[str, ...]
    cuts: tuple[int, ...]
    escaped: bool


CASES = st.builds(
    Case,
    pieces=st.lists(st.text(_LETTERS, max_size=40), min_size=1, max_size=6).map(tuple),
    cuts=st.lists(st.integers(0, 999), max_size=12).map(tuple),
    escaped=st.booleans(),
)


def _cases(run: Run, count: int) -> list[Case]:
    """So many, of Hypothesis's choice."""
    found: list[Case] = []

    @seed(run.seed)
    @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(CASES)
    def collect(case: Case) -> None:
        found.append(case)

    collect()
    return found


def _cut(body: bytes, places: Sequence[int]) -> list[bytes]:
    """The body in pieces that end at these bytes."""
    edges = sorted({0, len(body), *places})
    return [body[begin:end] for begin, end in zip(edges, edges[1:], strict=False)]


async def _as_iter_lines(chunks: AsyncIterator[bytes], limit: int = LINE_LIMIT) -> AsyncIterator[list[bytes]]:
    """`line_batches` of the control."""
    text, lines = TextDecoder(), LineDecoder()
    async for chunk in chunks:
        for line in filter(None, lines.decode(text.decode(chunk))):
            yield [line.encode()]
    for line in filter(None, lines.decode(text.flush()) + lines.flush()):
        yield [line.encode()]


@dataclass(slots=True)
class Trial:
    run: Run
    product: Loupe
    host: ScriptedHost
    asked: int = 0

    async def of(self, way: Way, lines: Sequence[bytes], pieces: Sequence[bytes], what: str) -> None:
        self.asked += 1
        self.host.play(Script(chunked(pieces)))
        outcome = await ask(self.product.url, way.body(f"question {self.asked}"), way.path)
        wrong = fault(way, outcome, meaning(b"".join(lines)))
        if not wrong and way.path == "/api/chat" and way.stream and _bytes(outcome) != b"".join(lines):
            wrong = "other bytes than the host's"
        self.run.trial(not wrong, f"{way}, {what}: {wrong}"[:300])


def _bytes(outcome: Outcome) -> bytes:
    return b"".join(line + b"\n" for line in outcome.lines)


async def _every_cut(trial: Trial, step: int) -> None:
    """Two pieces, cut at every byte of a nasty text, and bytes one by one."""
    lines = records(NASTY)
    body = b"".join(lines)
    for way in WAYS:
        await trial.of(way, lines, _cut(body, range(len(body))), "a byte at a time")
    for place in range(trial.run.random.randrange(step), len(body), step):
        way = WAYS[place % len(WAYS)] if step > 1 else WAYS[0]
        for one in {way, WAYS[2]} if step == 1 else {way}:
            await trial.of(one, lines, _cut(body, [place]), f"cut at {place}")


async def _framing(trial: Trial) -> None:
    """F20, F21: blank lines, CRLF, no last newline; a line just below the limit."""
    lines = records(NASTY)
    forms = {
        "blank lines": [b"\n\n".join(lines)],
        "CRLF": [line[:-1] + b"\r\n" for line in lines],
        "no last newline": [*lines[:-1], lines[-1][:-1]],
        "a long line": None,
    }
    for what, body in forms.items():
        if body is None:
            lines = records(["x" * (LINE_LIMIT - 1000), "end"])
            body = _cut(b"".join(lines), range(0, LINE_LIMIT, 1 << 16))
        for way in WAYS:
            await trial.of(way, lines, body, what)


@promise(
    15,
    "Stream fidelity",
    section="gateway",
    figure="content byte for byte as the model wrote it, all of Unicode, however the host cuts its answer, lines up to "
    "8 MB, in Ollama's dialect (whose lines are the host's own bytes) and OpenAI's, streamed and whole",
    controls=(ITER_LINES,),
)
async def stream_fidelity(run: Run) -> None:
    """F18 to F22: Hypothesis's texts in its chunks, and one nasty text cut at every byte."""
    host = ScriptedHost()
    prepare: Any = replaced(ollama_http, "line_batches", _as_iter_lines) if run.off else contextlib.nullcontext()
    with prepare:
        async with listening(host) as url, loupe(run.folder, [f"one={url};slots=2"]) as product:
            trial = Trial(run, product, host)
            for number, case in enumerate(_cases(run, run.scale(short=30, full=1500))):
                lines = records(case.pieces, escaped=case.escaped)
                body = b"".join(lines)
                places = [cut * len(body) // 1000 for cut in case.cuts] if case.cuts else range(len(body))
                for way in WAYS if number % 10 == 0 else (WAYS[number % len(WAYS)],):
                    await trial.of(way, lines, _cut(body, places), f"{case}"[:120])
            await _every_cut(trial, run.scale(short=41, full=1))
            await _framing(trial)
