"""Row 18: told to end, Loupe takes nothing new, lets answers end, tells the rest, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import psutil

from proving.chat_record import faults, unfinished
from proving.chatting import ENDS_AT_ONCE, Chatting, Plan, chatting, told
from proving.promises import Run, promise
from proving.raw_host import Cut, RawHost, listening
from proving.scripted_host import WAYS, Said, Way
from proving.stand import Outcome, ask, until
from tests.served import Served, gone, served_app
from tests.starter_cache import linked_store

PIECES = tuple(f"piece {number}, " for number in range(12))
ANSWER = "".join(PIECES)
READY = "signal to readiness 503, s"
ENDED = "signal to exit, less the drain, s"
MODEL = "smollm2:135m-instruct-q8_0"
DEADLINE = 120.0


@dataclass(slots=True)
class Scene:
    """A process with people who chat, clients that ask, and the moment at which it was told to end."""

    run: Run
    plan: Plan
    process: Chatting
    asking: dict[Way, list[asyncio.Task[tuple[Outcome, float]]]] = field(default_factory=dict)
    told_at: float = 0.0

    def begin(self, clients: int) -> None:
        for number in range(clients):
            way = WAYS[number % len(WAYS)]
            self.asking.setdefault(way, []).append(asyncio.create_task(self._ask(way, number)))

    async def _ask(self, way: Way, number: int) -> tuple[Outcome, float]:
        body = {**way.body(f"client {self.plan.number} {number}"), "temperature": 1}
        body.get("options", {}).pop("temperature", None)
        return await ask(self.process.url, body, way.path), time.monotonic()

    def tell(self) -> None:
        self.told_at = time.monotonic()
        self.process.send(signal.SIGTERM)

    async def not_ready(self) -> None:
        """Readiness says no, on a connection of its own each time, and nothing new is taken."""
        status = 0
        async with httpx.AsyncClient(timeout=DEADLINE, trust_env=False) as client:
            with contextlib.suppress(httpx.TransportError):
                while time.monotonic() - self.told_at < DEADLINE and status != 503:
                    status = (await client.get(f"{self.process.url}/readyz")).status_code
                    seconds = time.monotonic() - self.told_at
        self.run.trial(status == 503, f"readiness ended with {status}")
        if status == 503:
            self.run.measure(READY, seconds)
            refused = await ask(self.process.url, WAYS[0].body("too late"))
            self.run.trial(
                refused.status == 503, f"a question that came too late: {refused.status} {refused.lines[:1]}"
            )

    async def answers(self) -> None:
        """Each is whole, or told why not, and that no earlier than the drain's end where it had begun."""
        for way, asked in self.asking.items():
            for one in asked:
                try:
                    outcome, ended = await one
                    said = way.read(outcome)
                except (ValueError, KeyError, OSError, asyncio.IncompleteReadError) as error:
                    self.run.trial(False, f"{way}: {type(error).__name__} {error}")
                    continue
                self.run.trial(self._right(said, ended), f"{way}: {said} {ended - self.told_at:.1f} s after the signal")

    def _right(self, said: Said, ended: float) -> bool:
        if said.complete:
            return said.text == ANSWER
        waited = said.status == 503 or ended - self.told_at >= self.plan.drain - 0.1
        return waited and ANSWER.startswith(said.text) and bool(said.error)

    async def end(self, status: int) -> None:
        """The process is gone with this status, and the history has what was told."""
        await until(lambda: self.process.ended, DEADLINE, "the process to end")
        self.run.measure(ENDED, time.monotonic() - self.told_at - self.plan.drain)
        self.run.trial(self.process.status == status, f"exit status {self.process.status} instead of {status}")
        file, (asked, answered) = self.plan.data / "loupe.db", told(self.plan.told)
        wrong = faults(file, asked, answered, ANSWER)
        wrong += [f"{left} answers are still to come"] if status == 0 and (left := unfinished(file)) else []
        self.run.trial(not wrong, f"{len(wrong)} faults: {'; '.join(wrong[:3])}")


@asynccontextmanager
async def _scene(run: Run, number: int, host: str, *, drain: float) -> AsyncIterator[Scene]:
    """All on one history file, as a service that is started again and again."""
    data = run.folder / "data"
    data.mkdir(mode=0o700, exist_ok=True)
    plan = Plan(data, f"one={host};slots=8", run.folder / "told", number, people=3, drain=drain, off=run.off)
    with chatting(plan) as process:
        await process.first_question()
        yield Scene(run, plan, process)


async def _once(run: Run, number: int, host: str) -> None:
    """F41: a signal among eight answers and more that wait."""
    drain = 30.0 if number == 0 and not (run.short or run.off) else 2.0 if not run.short else 1.0
    async with _scene(run, number, host, drain=drain) as scene:
        scene.begin(clients=8)
        await asyncio.sleep(run.random.uniform(0.1, 0.5))
        scene.tell()
        await scene.not_ready()
        await scene.answers()
        await scene.end(0)


async def _twice(run: Run, number: int, host: str) -> None:
    """F42: a second signal ends it on the spot; what was told is written all the same."""
    async with _scene(run, number, host, drain=30.0) as scene:
        scene.tell()
        await asyncio.sleep(run.random.uniform(0.1, 0.3))
        scene.process.send(signal.SIGTERM)
        await scene.end(128 + signal.SIGTERM)


def _with_its_runtime(run: Run, number: int) -> None:
    """F55: SIGTERM, and kill -9, of the whole product with a model that is answering: no process is left."""
    folder = run.folder / f"runtime {number}"
    data = folder / "data"
    data.mkdir(mode=0o700, parents=True)
    linked_store(data / "models", ("q8_0",))
    with served_app(data, LOUPE_STARTER="off", LOUPE_DRAIN_SECONDS="2") as app:
        app.wait_ready()
        endless = {"model": MODEL, "prompt": "Tell a story.", "options": {"num_predict": 4000, "num_ctx": 8192}}
        with httpx.stream("POST", f"{app.url}/api/generate", json=endless, timeout=120) as answer:
            lines = answer.iter_raw()
            next(lines)
            left = _told_to_end(run, app, hard=number % 2 == 1)
            if number % 2 == 0:
                rest = b"".join(lines)
                run.trial(
                    rest.count(b'"error"') == 1 or b'"done":true' in rest, f"the answer ended with {rest[-200:]!r}"
                )
                run.trial(app.process.wait(DEADLINE) == 0, f"exit status {app.process.returncode}")
        deadline = time.monotonic() + DEADLINE
        while not gone(left) and time.monotonic() < deadline:
            time.sleep(0.02)
        run.trial(gone(left), f"{sum(one.is_running() for one in left)} processes are left")


def _told_to_end(run: Run, app: Served, *, hard: bool) -> list[psutil.Process]:
    family = app.family()
    run.require(len(family) >= 3, f"only {len(family)} processes: no worker")
    app.process.send_signal(signal.SIGKILL if hard else signal.SIGTERM)
    return family


@promise(
    18,
    "Clean drain on SIGTERM",
    section="gateway",
    figure="readiness 503 at once and nothing new taken; answers end whole within the drain (30 s), the rest with "
    "one error that says so; exit 0; a second signal ends it on the spot; 0 messages that were acknowledged lost, 0 "
    "processes left, also after kill -9",
    controls=(ENDS_AT_ONCE,),
    untested="the drain is scaled down from 30 to 2 s in all trials but one",
)
async def clean_drain(run: Run) -> None:
    host = RawHost(PIECES, lambda: Cut(400, "stall") if run.random.random() < 0.3 else Cut(), rate=30)
    async with listening(host) as url:
        for number in range(run.scale(short=1, full=40)):
            await _once(run, number, url)
        for number in range(100, 100 + run.scale(short=1, full=6)):
            if not run.off:
                await _twice(run, number, url)
    for number in range(run.scale(short=0, full=4)):
        await asyncio.to_thread(_with_its_runtime, run, number)
