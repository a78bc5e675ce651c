"""Row 13: no host is given up for what is not its fault, and the last one that may answer never is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from app.core.errors import (
    HostError,
    HostProtocolError,
    HostRefused,
    HostTimeout,
    LoupeError,
)
from app.core.hosts import HostState
from app.services import breaker as breaker_module
from app.services import retry_policy
from app.services.host_lease import Lease
from app.services.host_pool import HostPool
from app.services.watched_host import WatchedHost
from proving.promises import Run, promise
from proving.stand import Loupe, ask, asking, chat, loupe, quiet, until
from tests.fakes import MODEL, FakeBackend, FakeClock
from tests.stub_ollama import Cut, Reply, StubOllama, error, lines, served

SLOTS = 2
BROKEN = "busy answers, refused keys and the caller's mistakes count against the host"
NO_PANIC = "a host whose breaker is open takes nothing, the last one neither"
INNOCENT: tuple[HostError, ...] = tuple(HostRefused("h", status, "no") for status in (400, 401, 403, 404, 429, 503))
GUILTY: tuple[HostError, ...] = (
    HostProtocolError("h", "cut"),
    HostTimeout("h", "stall", 60),
    HostRefused("h", 502, ""),
)
REPLIES = {
    "F13 503": error(503, "server busy"), "F14 429": Reply([b'{"error":"later"}'], 429, headers={"retry-after": "0"}),
    "F15 401": error(401, "no key"), "F15 403": error(403, "no"), "400": error(400, "your mistake"),
    "404": error(404, "model not found"),
}  # fmt: skip


@dataclass(slots=True)
class Machine:
    """Random requests and outcomes over three hosts on a fake clock; one of them only ever meets innocent trouble."""

    run: Run
    clock: FakeClock
    pool: HostPool
    held: list[Lease] = field(default_factory=list)

    def step(self) -> None:
        kind = self.run.random.choices(("ask", "end", "wait"), (5, 5, 1))[0]
        if kind == "wait":
            self.clock.advance(self.run.random.choice((0.1, 1.0, 6.0, 30.0)))
        elif kind == "ask":
            self._ask()
        elif self.held:
            self._end(self.held.pop(self.run.random.randrange(len(self.held))))
        pure = self.pool._hosts[0]
        self.run.trial(pure.up and pure.breaker.state == "closed", "a host was rested that had done nothing wrong")

    def _ask(self) -> None:
        """A slot is free on a host that answers and asked for no pause: somebody must be sent there, if all others are
        worse off."""
        open_to_all = [host for host in self.pool._hosts if host.up and not host.limited]
        free = [host for host in open_to_all if host.busy_slots < SLOTS]
        better = [host for host in open_to_all if host.rested]
        lease = self.pool.reserve(MODEL)
        must = any(host.rested for host in free) or (free and not better)
        self.run.trial(lease is not None or not must, "nobody was sent to the last host that might answer")
        if lease is not None:
            self.held.append(lease)

    def _end(self, lease: Lease) -> None:
        guilty = lease.address.name != "pure" and self.run.random.random() < 0.6
        outcome = self.run.random.choice(("ok", "left", "failed"))
        if guilty:
            lease.failed(self.run.random.choice(GUILTY))
        elif outcome == "ok":
            lease.succeeded()
        elif outcome == "left":
            lease.abandoned()
        else:
            lease.failed(self.run.random.choice(INNOCENT))
        lease.release()


async def _steps(run: Run, count: int) -> None:
    clock = FakeClock()
    backends = [FakeBackend(name, slots=SLOTS) for name in ("pure", "foul", "worse")]
    pool = HostPool(backends, clock)
    for host in pool._hosts:
        await host.check()
        await host.refresh()
    machine = Machine(run, clock, pool)
    for number in range(count):
        machine.step()
        if number % 50 == 0:  # the health check passes all the time
            await asyncio.gather(*(host.check() for host in pool._hosts))
    await pool.stop()


async def _on_sockets(run: Run, times: int) -> None:
    """One host, so it is the last one: six times each kind of trouble in a row, and after each a plain question."""
    stub = StubOllama()
    async with served(stub) as url, loupe(run.folder, [url]) as product:
        for _ in range(times):
            for name, reply in REPLIES.items():
                await _trouble(run, product, stub, name, reply)
            await _cancelled(run, product, stub)
        stub.on("/api/chat", Reply([lines("chat_stream").parts[0], Cut()]))
        for number in range(6):
            await ask(product.url, chat(f"cut {number}"))
        stub.on("/api/chat", lines("chat_stream"))
        outcome = await ask(product.url, chat("after six cuts"))
        run.trial(outcome.complete, f"the last host was given up: {outcome.last}")


async def _trouble(run: Run, product: Loupe, stub: StubOllama, name: str, reply: Reply) -> None:
    stub.on("/api/chat", reply)
    for number in range(6):
        await ask(product.url, chat(f"{name} {number}"))
    stub.on("/api/chat", lines("chat_stream"))
    await _unharmed(run, product, name)


async def _cancelled(run: Run, product: Loupe, stub: StubOllama) -> None:
    """F33: six clients that leave in the middle."""
    for number in range(6):
        stub.on("/api/chat", Reply([lines("chat_stream").parts[0], asyncio.Event()]))
        async with asking(product.url, chat(f"leaves {number}")) as client:
            await client.head()
            client.leave(hard=number % 2 == 1)
            await until(lambda: not product.busy, 5, "the slot")
    stub.on("/api/chat", lines("chat_stream"))
    await _unharmed(run, product, "F33")


async def _unharmed(run: Run, product: Loupe, name: str) -> None:
    [status] = product.services.pool.statuses()
    well = status.state in (HostState.HEALTHY, HostState.BUSY, HostState.RATE_LIMITED) and status.breaker == "closed"
    run.trial(well, f"{name}: the host is {status.state}, its breaker {status.breaker}")
    outcome = await ask(product.url, chat(f"after {name}"))
    run.trial(outcome.complete, f"{name}: the next question got {outcome.last}")


def _everything_counts(error_: LoupeError) -> bool:
    return isinstance(error_, HostError)


def _free_unless_open(host: WatchedHost) -> int:
    return 0 if host.breaker.state == "open" else max(0, SLOTS - host.busy_slots)


@promise(
    13,
    "The breaker never gives up the last host; busy is not broken; leaving is no failure",
    section="hosts",
    figure="0 false ejections",
    controls=(BROKEN, NO_PANIC),
)
async def no_false_ejections(run: Run) -> None:
    """F13, F14, F15, F33 at random over three hosts on a fake clock; on sockets in front of the only host there is."""
    quiet()
    counts, free = retry_policy.counts_against, WatchedHost.free_slots
    if run.off == BROKEN:
        breaker_module.counts_against = _everything_counts  # type: ignore[attr-defined, assignment]
    if run.off == NO_PANIC:
        WatchedHost.free_slots = property(_free_unless_open)  # type: ignore[method-assign, assignment]
    try:
        await _steps(run, run.scale(short=4000, full=100_000))
        if run.off != NO_PANIC:
            await _on_sockets(run, run.scale(short=1, full=20))
    finally:
        breaker_module.counts_against, WatchedHost.free_slots = counts, free  # type: ignore[attr-defined, method-assign]
