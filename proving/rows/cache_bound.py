"""Row 23: the cache stays in its bound, and neither a full disk nor a damaged database fails a chat."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from contextlib import AsyncExitStack
from typing import Any

from app.core.generation import Json
from app.core.ports import SystemClock
from app.services import cache_store
from app.services.cache_folder import size_on_disk
from app.services.response_cache import Origin, ResponseCache
from proving.cache_rig import layer, replaced
from proving.promises import Run, promise
from tests.fakes import MODEL, answer, chat

ENDLESS = "nothing evicted"
LOUD = "errors of the database not caught"
COLD: dict[str, Json] = {"temperature": 0, "num_ctx": 1024}
SLACK = 16 << 20
ROOM = 3 << 20


async def _bound(run: Run, limit: int) -> None:
    """Mixed sizes, many times the limit; all files together are measured after every 50 writes."""
    folder, largest, kept = run.folder / f"bound {limit}", 0, 0
    cache = ResponseCache(folder, limit, SystemClock())
    await cache.start()
    sizes = [limit // 260] if run.off else [40, 4000, limit // 260, limit // 260, limit // 260]
    for number in range(run.scale(short=250, full=10_000)):
        size = run.random.choice(sizes)
        text = run.random.randbytes(size).hex()
        kept += await cache.put(f"{number}", answer(text), Origin(MODEL, f"{number % 5}"), seconds=1.0)
        if number % 25 == 24:
            size = size_on_disk(folder)
            largest = max(largest, size)
            run.trial(size <= 1.1 * limit + SLACK, f"{size} bytes on disk after {number} writes, limit {limit}")
    stats = await cache.stats()
    await cache.close()
    run.require(stats.entries < kept or bool(run.off), "the limit was never reached")
    run.measure("largest size of all files over the limit", largest / limit)


async def _small_disk(run: Run) -> None:
    """F44: a file system of 3 MiB where one can be mounted, else a limit on the size of files."""
    chats = run.scale(short=60, full=1000)
    ways = [["unshare", "-Urm"]] if shutil.which("unshare") else []
    for number, before in enumerate([*ways, []]):
        folder, how = run.folder / f"small {number}", "mount" if before else "limit"
        words = [*before, sys.executable, "-m", "proving.cache_on_small_disk", str(folder), str(chats), str(ROOM), how]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*words, stdout=pipe, stderr=pipe)
        out, err = await process.communicate()
        if process.returncode and how == "mount" and b"mount" in err:
            continue  # no file system can be mounted here
        told: dict[str, Any] = json.loads(out) if not process.returncode else {"asked": 1, "answered": 0, "off": ""}
        for _ in range(told["answered"]):
            run.trial(True)
        for _ in range(told["asked"] - told["answered"]):
            run.trial(False, f"{how}: a chat was not answered: {err.decode()[-300:]}")
        run.require(bool(told["off"]), f"{how}: the disk was full and the cache did not say so")
        run.figure(f"full disk ({how}): the cache said", told["off"])


async def _damaged(run: Run) -> None:
    """F49: the database is overwritten under a running cache; every chat goes on, and after a minute the cache too."""
    for number in range(run.scale(short=4, full=100)):
        async with layer(run.folder / f"damaged {number}") as rig:
            for question in range(20):
                await rig.ask(chat(f"{question}", options=COLD))
            await rig.kept()
            rig.cache._memory.clear()
            database = run.folder / f"damaged {number}" / "cache.db"
            at = run.random.choice([0, 16, 100, 4096, 8192, 12_288])
            with database.open("r+b") as file:
                file.seek(at)
                file.write(os.urandom(max(4096, database.stat().st_size - at)))
            (database.parent / "cache.db-wal").write_bytes(os.urandom(4096))
            for question in range(20):
                text = ""
                try:
                    _, text = await rig.ask(chat(f"{question}", options=COLD))
                except Exception as error:
                    text = repr(error)
                run.trial(text == "Paris.", f"a damaged database at {at}: {text}")
            await asyncio.gather(*rig.chat._shared._tasks, return_exceptions=True)


@promise(
    23,
    "Cache stays in its bound and never breaks chat",
    section="cache",
    figure="all files together at most 1.1 times the limit and 16 MiB, over 10,000 answers of mixed sizes; with a full "
    "disk or a damaged database 100 % of chats are answered",
    controls=(ENDLESS, LOUD),
    untested="a disk that answers wrongly or hangs",
)
async def cache_bound(run: Run) -> None:
    """Two limits, a full disk in two ways, and damage at random places."""
    async with AsyncExitStack() as stack:
        if run.off == ENDLESS:
            stack.enter_context(replaced(cache_store, "CULLED", 0))
        if run.off == LOUD:
            stack.enter_context(replaced(cache_store, "_FAILURES", ()))
        if run.off != LOUD:
            await _bound(run, 16 << 20)
        if not run.off:
            await _bound(run, 2 << 20)
            await _small_disk(run)
        if run.off != ENDLESS:
            await _damaged(run)
