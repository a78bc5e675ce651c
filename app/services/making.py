"""One quantization being made: by the host's own create, or here, uploaded and created from the upload.

What Ollama's create can do it does itself. For the other levels the source's file has to be readable on this machine:
it is quantized in a child process into Loupe's data folder and sent to the host as a blob. Ollama ignores `files` where
`from` is given (server/create.go of 0.33), so the texts of the source go along in the request instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from app.core.errors import BadRequest, DiskFull, HostTimeout, StoreError
from app.core.generation import Json
from app.core.hosts import ModelDetail, ModelInfo
from app.core.making import QuantizedFile
from app.core.ports import Backend, Quantizer
from app.models.catalog import parse_parameters
from app.services.host_records import records, uploaded
from app.services.jobs import JobHandle
from app.services.perseverance import Pause, lost, persevere
from app.services.source_file import SourceFile, verify
from app.wire.modelfile import read_modelfile

PLAIN_TEMPLATE = "{{ .Prompt }}"  # what Ollama shows for a model that brings none
QUANTIZING = 4  # times the work of reading the same bytes, roughly
_PIECE = 1 << 20
_SPARE = 64 << 20  # bytes of a disk that are left free
WORDS = {
    "verifying conversion": "Checking the new file",
    "parsing GGUF": "The host reads the file",
    "writing manifest": "Adding it to the models",
    "success": "Done",
}


@dataclass(frozen=True, slots=True)
class MakePlan:
    """What to make of what, under which name. `size` is predicted, in bytes."""

    source: ModelInfo
    detail: ModelDetail
    level: str
    name: str
    size: int


async def make_on_host(handle: JobHandle, backend: Backend, plan: MakePlan, *, pause: Pause) -> None:
    """By the host's own create. A real Ollama is silent while it quantizes; ours tells how far it is."""
    body: dict[str, Json] = {"from": plan.source.name, "quantize": plan.level}
    words = f"{backend.address.name} quantizes to {plan.level}"
    handle.say(words)
    await _create(_Stages(handle, (plan.source.size,)), handle, backend, plan, body, words, pause)


async def make_here(
    handle: JobHandle, backend: Backend, plan: MakePlan, source: SourceFile, *, quantizer: Quantizer, folder: Path,
    pause: Pause,
) -> None:  # fmt: skip
    """Here: check the source, quantize, upload, create. Raises `DiskFull`, `StoreError`, `IntegrityError`, `BadRequest`
    and what the host raises; nothing stays in `folder`, however it ends."""
    body = texts_of(plan.detail)
    target, host = folder / f"{secrets.token_hex(8)}.gguf", backend.address.name
    read, written = source.model.size, plan.size
    stages = _Stages(handle, (read, QUANTIZING * read, written, written))
    try:
        await asyncio.to_thread(_prepare, folder, plan.size)
        await _verified(stages, source)
        stages.next()
        made = await _quantized(stages, quantizer, source.path, target, plan.level)
        body["files"] = {"model.gguf": f"sha256:{made.sha256}", **projectors_of(plan.detail)}
        stages.next()

        async def upload() -> None:
            await uploaded(backend, f"sha256:{made.sha256}", _pieces(stages, target, made.size, host))

        await persevere(upload, handle, pause=pause)
        stages.next()
        await _create(stages, handle, backend, plan, body, f"{host} checks the file", pause)
    finally:
        await asyncio.shield(asyncio.to_thread(_clear, folder, target.name))


def room_missing(folder: Path, size: int) -> str:
    """The sentence that says how much room a file of `size` bytes lacks in `folder`, or "". Blocks."""
    place = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        return f"{place} cannot be used: {error.strerror}"
    if free >= size + _SPARE:
        return ""
    return f"{folder} has {free >> 20} MiB free, and {(size + _SPARE) >> 20} MiB are needed; free some space first"


def clear_leftovers(folder: Path) -> None:
    """Remove what a killed process left. Blocks."""
    _clear(folder, "")


class _Stages:
    """One bar over steps of different length: `weights` is how much work each is, in any unit."""

    def __init__(self, handle: JobHandle, weights: tuple[int, ...]) -> None:
        self._handle, self._weights = handle, weights
        self._at = self._done = 0

    def next(self) -> None:
        self._at += 1

    def tell(self, completed: int, total: int, detail: str) -> None:
        step = self._weights[self._at] * min(completed, total) // max(1, total)
        self._done = max(self._done, sum(self._weights[: self._at]) + step)  # a try that is repeated takes nothing back
        self._handle.progress(self._done, sum(self._weights), detail, rated=False)


async def _create(
    stages: _Stages, handle: JobHandle, backend: Backend, plan: MakePlan, body: dict[str, Json], words: str,
    pause: Pause,
) -> None:  # fmt: skip
    asked: dict[str, Json] = {"model": plan.name, "stream": True, "progress": True, **body}

    async def attempt() -> None:
        async with aclosing(records(backend, "/api/create", asked)) as told:
            async for record in told:
                if record.total:
                    stages.tell(record.completed, record.total, words)
                elif record.status in WORDS:
                    handle.say(WORDS[record.status])

    await persevere(
        attempt, handle, pause=pause, again=lambda error: lost(error) and not isinstance(error, HostTimeout)
    )


def texts_of(detail: ModelDetail) -> dict[str, Json]:
    """Everything of the source but its weights. What the host shows as the template may be the GGUF file's own, which
    comes along by itself; the Modelfile has that of the model."""
    told = read_modelfile(detail.modelfile)
    if told.adapters or told.drafts:
        raise BadRequest("a model with an adapter or a draft model can only be quantized by the host itself", "source")
    template = told.template if told.template != PLAIN_TEMPLATE else ""
    licenses: list[Json] = list(told.licenses) or ([detail.license] if detail.license else [])
    messages: list[Json] = [dict(message) for message in detail.messages]
    texts: dict[str, Json] = {
        "template": template,
        "system": detail.system,
        "parameters": parse_parameters(detail.parameters),
        "license": licenses,
        "messages": messages,
        "renderer": detail.renderer or told.renderer,
        "parser": detail.parser or told.parser,
        "requires": detail.requires,
    }
    return {key: value for key, value in texts.items() if value}


def projectors_of(detail: ModelDetail) -> dict[str, Json]:
    """The other files of the model by their digests: the host has them already."""
    names = [PureWindowsPath(path).name for path in read_modelfile(detail.modelfile).files[1:]]
    if not all(name.startswith("sha256-") for name in names):
        raise BadRequest("the host does not say where the model's projector is", "source")
    return {f"projector-{number}.gguf": name.replace("-", ":", 1) for number, name in enumerate(names, 1)}


async def _verified(stages: _Stages, source: SourceFile) -> None:
    loop, left = asyncio.get_running_loop(), threading.Event()

    def on_progress(done: int, total: int) -> None:
        loop.call_soon_threadsafe(stages.tell, done, total, "Checking the source")

    work = asyncio.ensure_future(asyncio.to_thread(verify, source, on_progress, left))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        left.set()
        await asyncio.wait({work})
        if not work.cancelled():
            work.exception()  # asked for, so that asyncio does not report it as forgotten: the cancelling wins
        raise


async def _quantized(stages: _Stages, quantizer: Quantizer, source: Path, target: Path, level: str) -> QuantizedFile:
    steps: Any = quantizer.run(source, target, level)
    made: QuantizedFile | None = None
    async with aclosing(steps):
        async for step in steps:
            if isinstance(step, QuantizedFile):
                made = step
            else:
                stages.tell(step.completed, step.total, f"Quantizing to {level}")
    if made is None:
        raise StoreError("the process that quantizes ended without a result")
    return made


async def _pieces(stages: _Stages, file: Path, size: int, host: str) -> AsyncIterator[bytes]:
    done = 0
    with await asyncio.to_thread(file.open, "rb") as opened:
        while piece := await asyncio.to_thread(opened.read, _PIECE):
            yield piece
            done += len(piece)
            stages.tell(done, size, f"Sending it to {host}")


def _prepare(folder: Path, size: int) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"the folder {folder} cannot be made: {error.strerror}") from error
    if missing := room_missing(folder, size):
        raise DiskFull(missing)


def _clear(folder: Path, beginning: str) -> None:
    for path in folder.glob(f"{beginning}*"):
        with contextlib.suppress(OSError):
            path.unlink()
