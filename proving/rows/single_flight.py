"""Row 21: identical requests share one generation that belongs to none of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass

from app.core.generation import Chunk
from app.services.shared_work import SharedWork, SharedWorks
from proving.cache_rig import replaced
from proving.promises import Run, promise
from proving.stand import Client, Loupe, ask, asking, chat, loupe, takes, until
from tests.recordings import recording
from tests.stub_ollama import Reply, StubOllama, served

ALONE = "every request on its own"
LEADER = "the generation belongs to who came first"
LIMIT = 1.0  # seconds from the last hang-up until the host is free
FREED = "last hang-up to closed upstream, s"
RECORDS = [line.encode() + b"\n" for line in recording("chat_stream").lines]
ERROR = b'{"error":"no memory"}\n'


@dataclass(slots=True)
class Trial:
    run: Run
    host: StubOllama
    product: Loupe
    number: int = 0

    def question(self, what: str) -> dict[str, object]:
        return chat(f"{what} {self.number}", temperature=0, num_ctx=1024)

    @property
    def sent(self) -> int:
        return len(self.host.asked_for("/api/chat"))

    async def joined(self, before: int, many: int) -> None:
        """Until `many` requests have found the generation of another one; not for ever, for the sake of controls."""
        patience = 2 if self.run.off else 20
        await takes(lambda: self.product.services.cache._totals.joined >= before + many, patience)

    async def crowd(self, what: str, many: int, ending: list[bytes]) -> None:
        """One after another they come while the answer is half there; all get all of it, or the same error."""
        gate, sent = asyncio.Event(), self.sent
        joined = self.product.services.cache._totals.joined
        self.host.on("/api/chat", Reply([*RECORDS[:3], gate, *ending]))
        asked = [asyncio.create_task(ask(self.product.url, self.question(what))) for _ in range(many)]
        await self.joined(joined, many - 1)
        gate.set()
        told = await asyncio.gather(*asked)
        texts = {outcome.text for outcome in told}  # who came when it was kept already got it with its own time
        self.run.trial(self.sent - sent == 1, f"{what}: {many} requests were {self.sent - sent} generations")
        if ending[-1] == ERROR:
            self.run.trial(all(outcome.last.get("error") for outcome in told), f"{what}: an error did not reach all")
            self.host.on("/api/chat", Reply(RECORDS))
            again = await ask(self.product.url, self.question(what))
            self.run.trial(again.complete, f"{what}: the error was kept: {again.last}")
        else:
            whole = all(outcome.complete for outcome in told)
            self.run.trial(whole and len(texts) == 1, f"{what}: not everybody got the whole answer")

    async def leader_leaves(self, *, hard: bool) -> None:
        gate, joined = asyncio.Event(), self.product.services.cache._totals.joined
        self.host.on("/api/chat", Reply([*RECORDS[:2], gate, *RECORDS[2:]]))
        async with asking(self.product.url, self.question("leader")) as leader:
            await self._two_pieces(leader)
            others = [asyncio.create_task(ask(self.product.url, self.question("leader"))) for _ in range(5)]
            await self.joined(joined, 5)
            leader.leave(hard=hard)
            await takes(lambda: self.host.hung_up.is_set(), 0.05)
            gate.set()
            told = await asyncio.gather(*others)
        self.host.hung_up.clear()
        whole = sum(outcome.complete for outcome in told)
        self.run.trial(whole == 5, f"who came first left, and {5 - whole} of 5 others lost their answer")

    async def all_leave(self) -> None:
        gate, sent = asyncio.Event(), self.sent
        self.host.on("/api/chat", Reply([*RECORDS[:2], gate]))
        self.host.hung_up.clear()
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(asking(self.product.url, self.question("leave"))) for _ in range(3)
            ]
            for client in clients:
                await self._two_pieces(client)
            for client in clients:
                client.leave()
            began = time.monotonic()
            await takes(lambda: self.host.hung_up.is_set() and not self.product.busy, LIMIT)
            seconds = time.monotonic() - began
        self.run.measure(FREED, seconds)
        self.run.trial(seconds <= LIMIT, "all left, and the host was not free after a second")
        gate.set()
        self.host.on("/api/chat", Reply(RECORDS))
        later = await ask(self.product.url, self.question("leave"))
        self.run.trial(later.complete and self.sent == sent + 2, "a request joined what the last one had left")

    async def _two_pieces(self, client: Client) -> None:
        await client.head()
        await client.records(2)

    async def rest(self) -> None:
        await until(lambda: not (self.product.busy or self.product.waiting), 10, "the trial to end")


async def _follow_the_leader(self: SharedWorks, key: str, work: SharedWork) -> AsyncGenerator[Chunk, None]:
    """`SharedWorks.follow` of the control: whoever comes first owns the work."""
    leads = not work.followers and not work.chunks
    try:
        async with aclosing(_follow(self, key, work)) as chunks:
            async for chunk in chunks:
                yield chunk
    finally:
        if leads and not work.done and work.task is not None:
            work.task.cancel()


_follow = SharedWorks.follow


@promise(
    21,
    "Single-flight",
    section="cache",
    figure="100 identical requests are 1 generation; who came first may leave without harm to the others; when the "
    "last one leaves the host is free within 1 s; an error reaches all and is not kept",
    controls=(ALONE, LEADER),
)
async def single_flight(run: Run) -> None:
    """F39, with the host on a real socket that holds its answer until everybody has come."""
    host = StubOllama()
    async with AsyncExitStack() as stack:
        if run.off == ALONE:
            stack.enter_context(replaced(SharedWorks, "find", lambda self, key: None))
        if run.off == LEADER:
            stack.enter_context(replaced(SharedWorks, "follow", _follow_the_leader))
        url = await stack.enter_async_context(served(host))
        product = await stack.enter_async_context(loupe(run.folder, [url]))
        one = Trial(run, host, product)
        for one.number in range(run.scale(short=1, full=30)):
            if run.off != LEADER:
                await one.crowd("crowd", 4 if run.off else 100, RECORDS[3:])
                await one.crowd("error", 4 if run.off else 20, [ERROR])
                await one.rest()
            if run.off != ALONE:
                await one.leader_leaves(hard=one.number % 2 == 1)
                await one.rest()
            if not run.off:
                await one.all_leave()
                await one.rest()
