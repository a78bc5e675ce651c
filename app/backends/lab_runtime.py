"""Embedded runtimes for measuring: one for each setup, beside the one that people use, over the same model files.

Each has a store of its own that holds one manifest and links to the blobs it names, so that no lock is shared and
nothing can be lost by what is done there. They end with `close`, and with us.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from app.backends.embedded import EmbeddedRuntime, EmbeddedSettings
from app.core.errors import ModelNotFound, StoreError
from app.core.ports import Backend
from app.core.runtime_setup import RuntimeSetup
from app.wire.model_names import parse_name

NAME = "batching lab"
_PREFIX = "lab-"
# It stays loaded until it is told to go, and what the links lead to is not ours to tidy up.
_LIMITS = {"OLLAMA_KEEP_ALIVE": "-1", "OLLAMA_MAX_LOADED_MODELS": "1", "OLLAMA_NOPRUNE": "1"}


class LabRuntimes:
    """`settings` are those of the runtime that people use: its store is where the model is."""

    def __init__(self, settings: EmbeddedSettings, data: Path, model: str) -> None:
        self._settings, self._data, self._model = settings, data, model
        self._folder: Path | None = None
        self._runtimes: dict[RuntimeSetup, EmbeddedRuntime] = {}

    async def open(self, setup: RuntimeSetup) -> Backend:
        """Started where it does not run yet. Raises `ModelNotFound`, `StoreError`, `HostUnreachable`."""
        runtime = self._runtimes.get(setup)
        if runtime is None:
            store = await asyncio.to_thread(self._store, len(self._runtimes))
            limits = {**self._settings.limits, **_LIMITS, **setup.environment}
            settings = replace(self._settings, name=NAME, store=store, slots=setup.slots or 1, limits=limits)
            runtime = self._runtimes[setup] = EmbeddedRuntime(settings)
            await runtime.start()
        await runtime.wait_ready()
        return runtime

    async def close(self) -> None:
        await asyncio.gather(*(runtime.stop() for runtime in self._runtimes.values()))
        self._runtimes.clear()
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    def _store(self, number: int) -> Path:
        try:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._data))
            store = self._folder / str(number)
            _link_model(self._settings.store, store, self._model)
        except OSError as error:
            raise StoreError(f"no place to measure {self._model} in can be made: {error.strerror}") from error
        return store


def remove_left(data: Path) -> None:
    """Take away what a process that was killed has left: links alone, so nothing is lost. Blocks."""
    for folder in data.glob(f"{_PREFIX}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _link_model(source: Path, target: Path, model: str) -> None:
    """Raises `ModelNotFound`, OSError."""
    place = Path("manifests", *parse_name(model).parts)
    try:
        manifest = (source / place).read_bytes()
        told = json.loads(manifest)
        digests = [str(layer["digest"]) for layer in (told["config"], *told["layers"])]
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise ModelNotFound(model) from error
    (target / place).parent.mkdir(parents=True)
    (target / "blobs").mkdir()
    for digest in dict.fromkeys(digests):
        name = digest.replace(":", "-")
        (target / "blobs" / name).symlink_to((source / "blobs" / name).absolute())
    (target / place).write_bytes(manifest)
