"""Row 20: what is served from the cache is a whole answer: after kills in mid-write, after every cut of a stream."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any, cast

from app.core.ports import SystemClock
from app.services import response_cache
from app.services.response_cache import ResponseCache
from app.services.shared_work import SharedWork, SharedWorks
from proving.cache_rig import replaced
from proving.cache_writer import LIMIT, text_of
from proving.promises import Run, promise
from proving.stand import Loupe, ask, chat, loupe
from tests.recordings import recording
from tests.stub_ollama import Cut, Reply, StubOllama, served

IN_PLACE = "files written in place and read unchecked"
AS_IT_COMES = "answers kept however they ended"
RECORDS = [line.encode() + b"\n" for line in recording("chat_stream").lines]
BODY = b"".join(RECORDS)
SAID = "".join(json.loads(record)["message"]["content"] for record in RECORDS)


async def _killed(run: Run, folder: Path, number: int, *, careless: bool) -> list[str]:
    """Let a process write and kill it at a random moment; the keys that it had kept."""
    words = ["-m", "proving.cache_writer", str(folder), str(number), *(["careless"] if careless else [])]
    writer = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=asyncio.subprocess.PIPE)
    stdout = cast(asyncio.StreamReader, writer.stdout)
    told = [(await stdout.readline()).decode().strip()]
    await asyncio.sleep(run.random.uniform(0, 0.1))
    writer.kill()
    told += (await stdout.read()).decode().split()
    await writer.wait()
    return [key for key in told if key]


async def _read_back(run: Run, folder: Path, told: list[str], number: int) -> int:
    """One trial: every key that may have been written is a miss or whole. The number of kept ones that are gone."""
    cache = ResponseCache(folder, LIMIT, SystemClock())
    await cache.start()
    keys = [*told, f"{number}-{len(told)}", f"{number}-{len(told) + 1}"]
    found = {key: hit for key in keys if (hit := cache.get(key)) is not None}
    await cache.close()
    broken = [key for key, hit in found.items() if [c.text for c in hit.chunks if c.text] != list(text_of(key))]
    run.trial(not broken, f"kill {number}: {len(broken)} answers were not whole")
    return len(set(told) - set(found))


def _read_back_carelessly(run: Run, folder: Path, told: list[str], number: int) -> None:
    keys = [*told, f"{number}-{len(told)}"]
    texts = {key: (folder / key).read_bytes().decode(errors="replace") for key in keys if (folder / key).exists()}
    broken = [key for key, text in texts.items() if text != "".join(text_of(key))]
    run.trial(not broken, f"kill {number}: {len(broken)} answers were not whole")


async def _kills(run: Run) -> None:
    lost = kept = 0
    for number in range(4 if run.off else run.scale(short=3, full=200)):
        folder = run.folder / "cache"
        told = await _killed(run, folder, number, careless=run.off == IN_PLACE)
        kept += len(told)
        if run.off:
            _read_back_carelessly(run, folder, told, number)
        else:
            lost += await _read_back(run, folder, told, number)
    run.figure("answers said to be kept before the kills", kept)
    run.figure("of them gone after the kill", lost)


async def _keep_whatever_comes(self: SharedWorks, key: str, work: SharedWork, produce: Any, keep: Any) -> None:
    """`SharedWorks._run` of the control."""
    try:
        async with aclosing(produce(work.trace)) as chunks:
            async for chunk in chunks:
                work.add(chunk)
        work.end()
    except Exception as error:
        work.end(error)
    await keep(tuple(work.chunks), work.trace)
    self._drop(key, work)


async def _cut_at(run: Run, product: Loupe, host: StubOllama, offset: int, ending: str) -> None:
    """A stream that ends before its end is not kept: the same question reaches the host again."""
    endings: dict[str, list[Any]] = {"breaks": [Cut()], "ends": [], "fails": [b'{"error":"no memory"}\n']}
    whole = RECORDS[: BODY[:offset].count(b"\n")]
    parts = [BODY[:offset]] if ending != "fails" else [b"".join(whole)]
    host.on("/api/chat", Reply([*filter(None, parts), *endings[ending]]), Reply(RECORDS))
    asked = chat(f"{ending} at {offset}", temperature=0, num_ctx=1024)
    # Without a byte before it a break is tried once more, and that answer is whole: no fault of the cache.
    first = await ask(product.url, asked)
    again = await ask(product.url, asked)
    run.trial(
        again.complete and again.text == SAID,
        f"{ending} at byte {offset}: {first.status}, and then {again.headers.get('x-loupe-cache')} {again.text!r}",
    )


async def _cuts(run: Run) -> None:
    host = StubOllama()
    offsets = list(range(0, len(BODY) - 1, run.scale(short=151, full=1)))
    async with AsyncExitStack() as stack:
        if run.off:
            stack.enter_context(replaced(SharedWorks, "_run", _keep_whatever_comes))
            stack.enter_context(replaced(response_cache, "complete", bool))
        url = await stack.enter_async_context(served(host))
        product = await stack.enter_async_context(loupe(run.folder, [url]))
        for offset in offsets:
            product.services.pool.look_again()
            await _cut_at(run, product, host, offset, run.random.choice(["breaks", "ends", "fails"]))


@promise(
    20,
    "Only complete answers are cached",
    section="cache",
    figure="0 partial answers served after 200 kill -9 of a process that writes to the cache, and after a stream that "
    "breaks off, ends or fails at every byte of an answer",
    controls=(IN_PLACE, AS_IT_COMES),
    untested="real power loss: the process is killed, the machine never is",
)
async def cache_complete(run: Run) -> None:
    """F43 in mid-write; F08, F10 and a cut connection at every offset, over real sockets."""
    if run.off != AS_IT_COMES:
        await _kills(run)
    if run.off != IN_PLACE:
        await _cuts(run)
