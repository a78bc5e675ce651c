"""Row 35: minutes at capacity, with hosts that fail in every way and clients that leave, and nothing is left of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import psutil

from app.backends import connecting
from app.services.host_lease import Lease
from proving.cache_rig import replaced
from proving.host_process import HostProcess, host_process
from proving.promises import Run, promise
from proving.scripted_host import WAYS, Way
from proving.stand import Loupe, Outcome, ask, asking, descriptors, loupe, takes, until
from tests.faultproxy import Bandwidth, Down, FaultProxy, Latency, LimitData, ResetPeer, Slicer, Toxic

KEPT_SLOTS = "slots are not given back"
CLIENTS, SLOTS, HOSTS = 20, 4, 3
PIECES = ("--pieces", "one ,two ,three ,four ", "--prefill", "0.05", "--rate", "40")
LEAVE = 0.15  # share of the clients that hang up before the end
QUESTIONS = 400  # different ones, so that some are answered out of the cache
HUNG = 60.0  # seconds after which an answer counts as lost
GROWTH = 1.10  # of memory, once rings and caches are full


@dataclass(slots=True)
class Held:
    """What the process holds."""

    descriptors: int
    tasks: int
    memory: float = field(default_factory=lambda: psutil.Process().memory_info().rss / 1e6)

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        return cls(descriptors(), len(asyncio.all_tasks()))


class Weather:
    """Faults, one after the other, each for a moment: of a host's network, or the host itself."""

    def __init__(self, run: Run, hosts: list[HostProcess], proxies: list[FaultProxy]) -> None:
        self._draw, self._hosts, self._proxies = run.random, hosts, proxies
        self.faults = 0

    async def blow(self) -> None:
        while True:
            self.faults += 1
            place = self._draw.randrange(HOSTS)
            if self._draw.random() < 0.1:
                await self._hosts[place].kill()
                await asyncio.sleep(self._draw.random())
                await self._hosts[place].start()
            else:
                await self._proxies[place].add(self._toxic())
                await asyncio.sleep(self._draw.random())
                await self._proxies[place].heal()
            await asyncio.sleep(0.2 * self._draw.random())

    def _toxic(self) -> Toxic:
        """None that swallows bytes and lets later ones through, which no TCP does: a chunk less would go unnoticed."""
        draw = self._draw
        return draw.choice(
            (
                Latency(draw.uniform(0, 0.3)), Down(), Bandwidth(draw.uniform(200, 4000)), ResetPeer(draw.random()),
                Slicer(draw.randrange(1, 60)), LimitData(draw.randrange(900)), LimitData(draw.randrange(900), "reset"),
                Latency(draw.uniform(1, 4)),
            )
        )  # fmt: skip

    async def clear(self) -> None:
        for proxy in self._proxies:
            await proxy.heal()
        for host in self._hosts:
            await host.kill()
            await host.start()


class Clients:
    """Ask all the time, in both dialects, streamed and not; some leave."""

    def __init__(self, run: Run, product: Loupe) -> None:
        self._run, self._product, self._patience = run, product, 3.0 if run.off else HUNG
        self.over = False
        self.endings: dict[str, int] = {"complete": 0, "refused or failed with a word": 0, "left": 0}

    async def work(self) -> None:
        draw = self._run.random
        while not self.over:
            way, question = draw.choice(WAYS), f"question {draw.randrange(QUESTIONS)}"
            if draw.random() < LEAVE:
                await self._leave(way, question)
                continue
            began = time.monotonic()
            try:
                async with asyncio.timeout(self._patience):
                    told = self._told(way, await ask(self._product.url, self._body(way, question), way.path))
            except TimeoutError:
                told = f"no end after {self._patience:g} s"
            self._run.trial(not told, f"{way}: {told}"[:300])
            self._run.measure("asked to ended, s", time.monotonic() - began)

    def _body(self, way: Way, question: str) -> dict[str, object]:
        body = way.body(question)
        if self._run.random.random() < 0.5:  # as likely sampled, which no cache answers
            body.pop("temperature", None)
            body.pop("options", None)
        return body

    def _told(self, way: Way, outcome: Outcome) -> str:
        """What is wrong with an ending; "" where nothing is."""
        try:
            said = way.read(outcome)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            return f"{type(error).__name__}: {error}"
        if said.complete == bool(said.error):
            return f"neither complete nor an error: {said}"
        if said.complete and said.text != "one two three four ":
            return f"complete, but {said.text!r}"
        self.endings["complete" if said.complete else "refused or failed with a word"] += 1
        return ""

    async def _leave(self, way: Way, question: str) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with asking(self._product.url, self._body(way, question), way.path) as client:
                async with asyncio.timeout(self._run.random.uniform(0, 0.3)):
                    await client.head()
                    while await client.piece():
                        continue
        self.endings["left"] += 1


@asynccontextmanager
async def _stand(run: Run) -> AsyncIterator[tuple[Loupe, Weather]]:
    async with AsyncExitStack() as stack:
        hosts = [await stack.enter_async_context(host_process(f"127.0.35.{n + 2}", *PIECES)) for n in range(HOSTS)]
        proxies = [FaultProxy(host.url, seed=run.seed) for host in hosts]
        urls = [await proxy.start() for proxy in proxies]
        for proxy in proxies:
            stack.push_async_callback(proxy.stop)
        words = [f"host{number}={url};slots={SLOTS}" for number, url in enumerate(urls)]
        product = await stack.enter_async_context(
            loupe(run.folder, words, stall_seconds=2.0, first_token_seconds=5.0, queue_per_client=CLIENTS)
        )
        yield product, Weather(run, hosts, proxies)


@promise(
    35, "Minutes at capacity with faults leave nothing behind", section="gateway",
    figure="each answer complete or ended by one error; afterwards descriptors and tasks within 2 of the start, memory "
    "within a tenth of what it was after a fifth of the time, no slot taken",
    controls=(KEPT_SLOTS,),
)  # fmt: skip
async def a_soak_leaves_nothing(run: Run) -> None:
    """20 clients, 12 slots on three hosts, ten minutes; a fault about twice a second."""
    seconds = run.scale(short=4, full=600)
    async with AsyncExitStack() as stack:
        stack.enter_context(replaced(connecting, "KEEP_ALIVE_SECONDS", 0.5))
        if run.off:
            stack.enter_context(replaced(Lease, "release", lambda self: None))
        product, weather = await stack.enter_async_context(_stand(run))
        outcome = await ask(product.url, WAYS[0].body("the first one"), WAYS[0].path)
        run.require(outcome.complete or bool(run.off), f"the first answer: {outcome.status}")
        before, clients = Held.now(), Clients(run, product)
        blowing = asyncio.create_task(weather.blow())
        working = [asyncio.create_task(clients.work()) for _ in range(CLIENTS)]
        await asyncio.sleep(0.2 * seconds)
        warm = Held.now().memory
        await asyncio.sleep(0.8 * seconds)
        clients.over = True
        blowing.cancel()
        await asyncio.gather(blowing, return_exceptions=True)
        await weather.clear()
        await asyncio.gather(*working)
        await _nothing_left(run, product, before)
        if not run.off:
            run.figure("memory at the end / after a fifth of the time", Held.now().memory / warm)
            run.require(run.short or Held.now().memory <= GROWTH * warm, "memory grew")
            run.figure("faults", weather.faults)
            for name, number in clients.endings.items():
                run.figure(f"answers: {name}", number)
            run.require(clients.endings["complete"] > 0, "no answer was complete")


async def _nothing_left(run: Run, product: Loupe, before: Held) -> None:
    patience = 2.0 if run.off else 30.0
    free = await takes(lambda: not product.busy and not product.waiting, patience)
    run.require(free < patience, f"{product.busy} slots are taken, {product.waiting} wait")
    if run.off:
        return
    await until(lambda: len(product.services.pool.seats()) == HOSTS, 60, "the hosts to be used again")
    now = before

    def settled() -> bool:
        nonlocal now
        now = Held.now()
        return now.descriptors <= before.descriptors + 2 and now.tasks <= before.tasks + 2

    run.require(await takes(settled, 30) < 30, f"{now} is held, {before} before")
    run.figure("descriptors before, after", f"{before.descriptors}, {now.descriptors}")
    run.figure("tasks before, after", f"{before.tasks}, {now.tasks}")
