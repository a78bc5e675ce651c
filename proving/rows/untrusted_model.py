"""Row 29: a model's file is read by us, rendered and computed by others: none of it hurts the process that serves."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import psutil

from app.backends import embedded
from app.backends.embedded import EmbeddedRuntime, EmbeddedSettings
from app.config_children import process_environment
from app.core.errors import HostUnreachable
from proving.cache_rig import replaced
from proving.promises import Run, promise
from proving.stand import Loupe, ask, chat, loupe, until
from tests.served import family_of
from tests.starter_cache import linked_store

OTHER_READER = "the reader of the package gguf in place of ours"
IN_PROCESS = "templates rendered in the process that serves"
NO_LIMIT = "a runtime that is started again for ever"
WHOLE_ENVIRONMENT = "the whole environment handed to the runtime"

MODEL = "smollm2:135m-instruct-q8_0"
SECRETS = {
    "LOUPE_TOKEN": "canary-1",
    "AWS_SECRET_ACCESS_KEY": "canary-2",
    "HF_TOKEN": "canary-3",
    "PGPASSWORD": "canary-4",
}
STALL = 1.0  # seconds of CPU for one file
READY_SECONDS = 60.0
CRASHES, WINDOW_SECONDS = 3, 3.0  # starts that are allowed; how long the runtime without a limit is watched
CRASHING = "import os, sys; os.write(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND), b'x'); os.abort()"


async def _fuzz(run: Run) -> None:
    """Damaged files; the reader is a process of its own, so that a crash is one that can be told."""
    words = ["-m", "proving.fuzzed_reader", str(run.seed), str(run.scale(short=2000, full=1_000_000))]
    reader = await asyncio.create_subprocess_exec(
        sys.executable, *words, *(["other"] if run.off else []), cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    runs, faults, slowest = 0, 0, 0.0
    try:
        async for line in cast(asyncio.StreamReader, reader.stdout):
            said = json.loads(line)
            if "fault" in said:
                faults += 1
                run.trial(False, f"{said['fault']} for {said['input']}")
            else:
                runs, slowest = said["runs"], said["slowest"]
    except asyncio.CancelledError:
        reader.kill()
        raise
    status = await reader.wait()
    run.trials += runs - faults
    run.require(status in (0, 1), f"the reader ended with {status} after {runs} files")
    run.figure("damaged files read or refused", runs)
    run.figure("CPU time of the slowest, s", slowest)
    run.require(slowest < STALL, f"a file took {slowest:.2f} s")


@contextlib.contextmanager
def _tripwires() -> Iterator[list[str]]:
    """Notes each template that this process parses, whichever engine does it."""
    met: list[str] = []
    with contextlib.ExitStack() as stack:
        for module, name in (
            ("app.runtime.templates.go_template", "parse"),
            ("jinja2.environment", "Environment.compile"),
        ):
            with contextlib.suppress(ModuleNotFoundError):
                place: Any = importlib.import_module(module)
                *outer, last = name.split(".")
                for part in outer:
                    place = getattr(place, part)
                stack.enter_context(replaced(place, last, _noting(getattr(place, last), met, f"{module}.{name}")))
        yield met


def _noting(function: Any, met: list[str], name: str) -> Any:
    def noted(*arguments: Any, **words: Any) -> Any:
        met.append(name)
        return function(*arguments, **words)

    return noted


@asynccontextmanager
async def _with_runtime(run: Run) -> AsyncIterator[Loupe]:
    """Loupe with its own runtime as a child process, and a model."""
    linked_store(run.folder / "data" / "models", ("q8_0",))
    async with loupe(run.folder, []) as product:
        await product.services.runtime.wait_ready()
        await until(
            lambda: any(s.state == "healthy" for s in product.services.pool.statuses()), READY_SECONDS, "the pool"
        )
        yield product


async def _templates(run: Run) -> None:
    """The template is rendered (its text is in the answer), and not by this process."""
    async with _with_runtime(run) as product:
        with _tripwires() as met:
            if run.off:
                from app.runtime.templates import go_template

                go_template.parse("{{ .Prompt }}").render([])
            rendered = await ask(product.url, {**chat(model=MODEL, stream=False), "_debug_render_only": True})
            shown = await ask(product.url, {"model": MODEL}, "/api/show")
        run.trial("<|im_start|>user" in str(rendered.last), f"nothing was rendered: {rendered}")
        run.trial(shown.status == 200 and not met, f"{len(met)} templates were parsed here: {met[:1]}")
        if not run.short:
            await _workers(run, product)


async def _workers(run: Run, product: Loupe) -> None:
    """Three crashes of a model's worker, and it is not started a fourth time; none of our secrets is in it."""
    for _ in range(CRASHES):
        answer = await ask(product.url, chat(model=MODEL, num_predict=2))
        run.trial(answer.complete, f"no answer: {answer.status} {answer.last}")
        worker = _worker(product)
        if worker is None:
            run.require(False, "there is no worker")
            return
        run.trial(not set(SECRETS.values()) & set(worker.environ().values()), "a worker has secrets")
        worker.kill()
        await _dead(worker)
        await _noticed(product)
    told = await ask(product.url, chat(model=MODEL))
    clear = told.status == 503 and "crashed 3 times within 5 minutes" in str(told.last.get("error"))
    run.trial(clear and _worker(product) is None, f"after three crashes: {told.status} {told.last}")


async def _noticed(product: Loupe) -> None:
    """Until the runtime says that nothing is loaded: a question before that is told that its worker has died."""
    async with asyncio.timeout(30), product.services.pool.lease() as backend:
        while await backend.loaded():
            await asyncio.sleep(0.01)


async def _dead(process: psutil.Process) -> None:
    await until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, 30, "its end")


def _worker(product: Loupe) -> psutil.Process | None:
    family = family_of(product.services.runtime.pid or 0)
    return next((one for one in family if any(word.endswith("worker.py") for word in one.cmdline())), None)


async def _crashes(run: Run) -> None:
    """A runtime that crashes at once."""
    marks = run.folder / "starts"
    command = (sys.executable, "-c", CRASHING, str(marks))
    with replaced(embedded, "CRASHES", 10**6) if run.off else contextlib.nullcontext():
        runtime = EmbeddedRuntime(EmbeddedSettings(run.folder, command=command))
        await runtime.start()
        told = ""
        try:
            async with asyncio.timeout(WINDOW_SECONDS if run.off else READY_SECONDS):
                await runtime.wait_ready()
        except HostUnreachable as error:
            told = error.message
        except TimeoutError:
            told = "it was not given up"
        finally:
            await runtime.stop()
    starts = len(marks.read_bytes())
    run.trial(starts <= CRASHES and "not started again" in told, f"{starts} starts, then {told!r}")


async def _environment(run: Run) -> None:
    """The runtime as it is, started from an environment full of secrets."""
    before = dict(os.environ)
    os.environ |= SECRETS
    careless = replaced(embedded, "PASSED_ON", tuple(os.environ))
    store = run.folder / "store"
    store.mkdir(exist_ok=True)
    with careless if run.off else contextlib.nullcontext():
        runtime = EmbeddedRuntime(EmbeddedSettings(store, environment=process_environment()))
        try:
            await runtime.start()
            await asyncio.wait_for(runtime.wait_ready(), READY_SECONDS)
            there = {
                name
                for one in family_of(runtime.pid or 0)
                for name, value in one.environ().items()
                if value in SECRETS.values()
            }
        finally:
            await runtime.stop()
            os.environ.clear()
            os.environ.update(before)
    run.trial(not there, f"the runtime has {', '.join(sorted(there))}")


PARTS = {OTHER_READER: _fuzz, IN_PROCESS: _templates, NO_LIMIT: _crashes, WHOLE_ENVIRONMENT: _environment}


@promise(
    29,
    "An untrusted model file cannot hurt the web process",
    section="gateway",
    figure="the reader: 0 crashes, 0 other errors and none longer than 1 s of CPU over 10^6 damaged files; templates "
    "are never rendered by the process that serves; a runtime, or a model's worker, that crashes is started 3 times in "
    "5 minutes, then a clear error; none of our secrets in its environment",
    controls=tuple(PARTS),
)
async def an_untrusted_model_file(run: Run) -> None:
    for off, part in PARTS.items():
        if run.off in ("", off):
            await part(run)
