"""Rows 16 and 34: what a host says may be broken in any way and at any place: its answer has one end, and tells it."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from app.backends import ollama_http
from app.bootstrap import Services
from app.gateway import streaming
from app.services import response_cache
from app.services.shared_work import SharedWorks
from app.wire.framing import LineTooLong, split_lines
from proving.cache_rig import replaced
from proving.promises import Run, promise
from proving.raw_host import listening
from proving.rows.cache_complete import _keep_whatever_comes
from proving.scripted_host import WAYS, Meaning, Script, ScriptedHost, Way, chunked, fault, head, meaning, records
from proving.stand import Loupe, ask, loupe

SKIPPING = "lines that cannot be read are skipped"
KEEPING = "answers kept however they ended"
SILENT = "a stream that fails in the middle just ends"
PIECES = ("one é, ", "two \u2028, ", "three 👩‍🚀. ")
GOOD = records(PIECES)
BODY = b"".join(GOOD)
NOTHING = Meaning((), False)
TIMES = {"first_token_seconds": 1.0, "stall_seconds": 1.0, "outage_seconds": 0.2}


@dataclass(slots=True)
class Trial:
    """Loupe in front of one host, which tells the script of the moment."""

    run: Run
    product: Loupe
    host: ScriptedHost
    asked: int = 0

    async def of(self, way: Way, script: Script, meant: Sequence[Meaning], what: str, *, again: bool = True) -> None:
        """One answer, which has to be right for one of `meant`; then (`again`) the same question to a host that is well
        again: what was broken is not kept, and nothing is left of it."""
        self.asked += 1
        body = way.body(f"question {self.asked}")
        self.host.play(script)
        outcome = await ask(self.product.url, body, way.path)
        wrong = [fault(way, outcome, one) for one in meant]
        self.run.trial("" in wrong, f"{way}, {what}: {wrong[0]}"[:300])
        if not again or any(one.whole for one in meant):
            return
        self.host.play(Script(chunked(GOOD)))
        self.product.services.pool.look_again()
        outcome = await ask(self.product.url, body, way.path)
        wrong = [fault(way, outcome, meaning(BODY))]
        self.run.trial(not wrong[0], f"{way}, the same question after {what}: {wrong[0]}"[:300])


def _spend_freely(services: Services) -> None:
    services.chat._budget.spend = lambda: True  # type: ignore[method-assign]  # hundreds of failures in a minute


@contextlib.asynccontextmanager
async def _stand(run: Run, **settings: Any) -> AsyncIterator[Trial]:
    host = ScriptedHost()
    async with listening(host) as url, loupe(
        run.folder, [f"one={url};slots=2"], prepare=_spend_freely, **(TIMES | settings)
    ) as product:  # fmt: skip
        yield Trial(run, product, host)


def _record(**fields: Any) -> bytes:
    """A record of an answer with these fields in place of its own."""
    return json.dumps({**json.loads(GOOD[1]), **fields}).encode() + b"\n"


LINES: dict[str, bytes] = {
    "F10 an error record": b'{"error":"llama runner process has terminated"}\n',
    "F10 an error of another shape": b'{"error":{"message":"no memory"}}\n',
    "F10 an empty error": b'{"error":""}\n',
    "F17 half a record": GOOD[1][:40] + b"\n",
    "F17 no JSON": b"<html>502 Bad Gateway</html>\n",
    "F17 a list": b"[1,2]\n",
    "F17 a number": b"17\n",
    "F17 a string": b'"text"\n',
    "F17 null": b"null\n",
    "F17 deep nesting": b"[" * 100_000 + b"\n",
    "F17 an endless string": b'{"message":{"content":"' + b"x" * 100_000 + b"\n",
    "F18 invalid UTF-8": b'{"message":{"content":"\xff\xfe"}}\n',
    "F18 half a letter": b'{"message":{"content":"\xe6\x97"}}\n',
    "F18 UTF-16": GOOD[1].decode().encode("utf-16"),
    "F18 zeros": b"\0" * 50 + b"\n",
    "F21 a line of 9 MB": b'{"message":{"content":"' + b"x" * (9 << 20) + b'"}}\n',
    "F21 9 MB without a line's end": b"x" * (9 << 20),
    "F24 compressed bytes": gzip.compress(BODY) + b"\n",
    "a server-sent event": b"data: " + GOOD[1],
    "two records in a line": GOOD[1][:-1] * 2 + b"\n",
}  # no record; what a stream says ends before it
ODD: dict[str, bytes] = {
    "F26 the end twice": GOOD[-1] * 2,
    "F26 records after the end": GOOD[-1] + GOOD[1],
    "F26 nonsense after the end": GOOD[-1] + b"\xff{{{\n",
    "F20 blank lines": b"\n\r\n\n",
    "fields of other kinds": _record(message=17, created_at=[], model={}, eval_count="many"),
    "numbers without bounds": _record(eval_count=10**400, total_duration=1e308),
    "a text that is none": _record(message={"role": "assistant", "content": {"a": 1}}),
    "half a surrogate pair": b'{"message":{"role":"assistant","content":"\\ud83d"},"done":false}\n',
    "NaN": b'{"message":{"role":"assistant","content":"nan"},"done":false,"eval_duration":NaN}\n',
}  # records all the same, or after all of them


def _wholes() -> Iterator[tuple[str, Script, Meaning]]:
    """Answers that are wrong as a whole: the head, the length, the kind."""
    page, sized = b"application/x-ndjson", b"Content-Length: %d"
    long, short = (head(page, sized % (len(BODY) + more)) for more in (9, -30))
    elsewhere = head(b"text/html", b"Location: http://169.254.169.254/latest", sized % 0, status=b"302 Found")
    yield "F11 a status of 500", _plain(b"500 Internal Server Error", b'{"error":"llama runner died"}'), NOTHING
    yield "a status of 500 with a page", _plain(b"500 Oh", b"<html>"), NOTHING
    yield "a status of 502 without a word", _plain(b"502 Bad Gateway", b""), NOTHING
    yield "F25 a redirect", Script([elsewhere]), NOTHING
    yield "an empty stream", Script(chunked([])), NOTHING
    yield "F24 a length that is too long", Script([long, BODY], "close"), meaning(BODY)
    yield "F24 a length that is too short", Script([short, BODY], "close"), meaning(BODY[:-30])
    yield "F24 a compressed answer", _compressed(BODY), meaning(BODY)
    yield "F24 a bomb", _compressed(b"[" * (64 << 20)), NOTHING
    yield "no HTTP", Script([b"SSH-2.0-OpenSSH_9.2\r\n"], "close"), NOTHING
    yield "a head without end", Script([b"HTTP/1.1 200 OK\r\nX: " + b"y" * (1 << 20)], "close"), NOTHING
    yield "a chunk of no size", Script([chunked([])[0], b"zz\r\nabc\r\n"], "close"), NOTHING
    yield "nothing at all", Script([], "close"), NOTHING
    yield "F06 reset at once", Script([], "reset"), NOTHING


def _plain(status: bytes, body: bytes) -> Script:
    return Script([head(b"application/json", b"Content-Length: %d" % len(body), status=status) + body])


def _compressed(body: bytes) -> Script:
    small = gzip.compress(body)
    return Script([head(b"application/x-ndjson", b"Content-Encoding: gzip", b"Content-Length: %d" % len(small)), small])


async def _told_faults(trial: Trial) -> None:
    """Each fault before the first record, between records, and in the place of the end."""
    short = trial.run.short or bool(trial.run.off)
    for number, (what, line) in enumerate((LINES | ODD).items()):
        places = (0, 2, len(GOOD) - 1)
        for place in (places[number % 3],) if short else places:
            content = [*GOOD[:place], line, *GOOD[place:]]
            for way in WAYS if not short else (WAYS[(number + place) % len(WAYS)],):
                meant = meaning(b"".join(content))
                await trial.of(way, Script(chunked(content)), (meant,), f"{what} in place {place}")
    for number, (what, script, meant) in enumerate(_wholes()):
        for way in WAYS if not short else (WAYS[number % len(WAYS)],):
            await trial.of(way, script, (meant,), what)


async def _random_damage(trial: Trial, times: int) -> None:
    """Bytes of an answer changed, taken away or put in at random."""
    draw = trial.run.random
    for number in range(times):
        content = bytearray(BODY)
        for _ in range(draw.choice((1, 1, 2, 5))):
            at = draw.randrange(len(content))
            match draw.randrange(4):
                case 0:
                    content[at] ^= 1 << draw.randrange(8)
                case 1:
                    content[at:at] = draw.choice(
                        [b"\n", b"\0", b"\xff", b"}", b'"', b"\\", b"{", b"\r\n", b"\xe2\x80\xa8"]
                    )
                case 2:
                    del content[at : at + draw.choice((1, 3, 30))]
                case _:
                    content[at : at + 4] = draw.randbytes(4)
        body = bytes(content)
        cuts = sorted(draw.randrange(len(body)) for _ in range(3))
        pieces = [body[: cuts[0]], body[cuts[0] : cuts[1]], body[cuts[1] : cuts[2]], body[cuts[2] :]]
        way = WAYS[number % len(WAYS)]
        await trial.of(way, Script(chunked(pieces)), (meaning(body),), f"damage {number}", again=number % 4 == 0)


async def _readable(chunks: AsyncIterator[bytes], host: str) -> AsyncIterator[list[bytes]]:
    """`_lines` of a control."""
    with contextlib.suppress(LineTooLong):
        async for line in split_lines(chunks):
            with contextlib.suppress(ValueError, RecursionError, TypeError):
                if "error" not in json.loads(line):
                    yield [line]


@promise(
    16,
    "Bad upstream data gives one clean error",
    section="gateway",
    figure="a 5xx with one sentence, or one error record (event) as the last one, in Ollama's dialect and OpenAI's; 0 "
    "bugs, 0 broken answers kept, and the next answer is right",
    controls=(SKIPPING, KEEPING),
)
async def bad_upstream_data(run: Run) -> None:
    """F06, F10, F11, F17, F18, F20, F21, F24 to F26 and bytes damaged at random."""
    async with AsyncExitStack() as stack:
        if run.off == SKIPPING:
            stack.enter_context(replaced(ollama_http, "_lines", _readable))
        elif run.off == KEEPING:
            stack.enter_context(replaced(SharedWorks, "_run", _keep_whatever_comes))
            stack.enter_context(replaced(response_cache, "complete", bool))
        trial = await stack.enter_async_context(_stand(run))
        await _told_faults(trial)
        await _random_damage(trial, run.scale(short=24, full=5000))


@dataclass(frozen=True, slots=True)
class Break:
    """A fault at one byte of an answer's body: what is written, how it ends, and what may have been understood."""

    name: str
    script: Script
    meant: tuple[Meaning, ...]


def _breaks(at: int) -> list[Break]:
    """Every way in which an answer can go wrong at byte `at` of its body. A connection that breaks may take with it
    what is on its way."""
    before, after = BODY[:at], BODY[at:]
    sent = (meaning(before),)
    lost = tuple({meaning(BODY[:end]) for end in _ends(at)})
    pieces = chunked([before])
    made = [
        Break("F07 close", Script(pieces[:-1], "close"), lost),
        Break("F07 reset", Script(pieces[:-1], "reset"), lost),
        Break("F08 a clean end", Script(pieces), sent),
    ]
    for name, more in (
        ("F17 a bracket", b"{"), ("F18 a byte of no letter", b"\xff"), ("F20 a line's end", b"\n"),
        ("F26 an end", GOOD[-1]), ("F10 an error", b'\n{"error":"no memory"}\n'), ("F20 a return", b"\r"),
        ("a zero", b"\0"),
    ):  # fmt: skip
        made.append(Break(name, Script(chunked([before, more, after])), (meaning(before + more + after),)))
    return made


def _ends(at: int) -> list[int]:
    """Where the records that end before `at` end, and the beginning."""
    edges = [0]
    for line in GOOD:
        edges.append(edges[-1] + len(line))
    return [edge for edge in edges if edge <= at] + ([at] if meaning(BODY[:at]).whole else [])


async def _relay_silently(pieces: Any, out: Any, failure: Any, lifecycle: Any) -> None:
    """`_relay` of the control."""
    with contextlib.suppress(Exception):
        async for piece in pieces:
            await out.write(piece)
    await out.end()


@promise(
    34,
    "One end, whatever breaks, at every byte",
    section="gateway",
    figure="exactly one terminal record or event, nothing doubled, spliced or made up, in Ollama's dialect and "
    "OpenAI's, with each of ten faults at every byte of an answer, and a stall at every piece of it",
    controls=(SILENT,),
)
async def one_end(run: Run) -> None:
    """F05, F07, F08, F10, F17, F18, F20 and F26 at every byte offset."""
    step = run.scale(short=37, full=1)
    with replaced(streaming, "_relay", _relay_silently) if run.off else contextlib.nullcontext():
        async with _stand(run) as trial:
            for at in range(run.random.randrange(step), len(BODY) + 1, step):
                for number, one in enumerate(_breaks(at)):
                    for way in (WAYS[0], WAYS[2]) if step == 1 else (WAYS[2 * ((at + number) % 2)],):
                        await trial.of(way, one.script, one.meant, f"{one.name} at {at}", again=number == 2)
            for end in _ends(len(BODY) - 1)[:: run.scale(short=3, full=1)]:
                stall = Script(chunked([BODY[: end + 9]])[:-1], "stall")
                await trial.of(WAYS[0], stall, (meaning(BODY[:end]),), f"F05 a stall at {end}")
    run.figure("bytes of an answer", len(BODY))
