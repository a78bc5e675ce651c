"""The file behind a model of a host, where it can be read on this machine: found, looked at, and checked.

A host says where its file is (FROM in what it shows). That is taken only where the file's name is a digest, its tensors
are those that the host shows and, before it is used, its content has that digest: so a host that lies gets nothing but
a file whose digest it knew.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from app.core.errors import Cancelled, IntegrityError, LoupeError, StoreError
from app.core.hosts import ModelDetail
from app.models.gguf_file import GgufFile, read_gguf
from app.wire.modelfile import read_modelfile

_BLOB = re.compile(r"sha256-([0-9a-f]{64})")
_PIECE = 4 << 20
_verified: set[tuple[str, int, int]] = set()  # (path, size, mtime in ns) of files whose digest was found right


@dataclass(frozen=True, slots=True, eq=False)
class SourceFile:
    model: GgufFile
    sha256: str

    @property
    def path(self) -> Path:
        return self.model.path


def find_source(detail: ModelDetail, stores: Sequence[Path]) -> SourceFile | str:
    """The file, or why there is none, as half a sentence. `stores` are model stores on this machine. Blocks."""
    files = read_modelfile(detail.modelfile).files
    if not files:
        return "the host does not say where the model's file is"
    name = PureWindowsPath(files[0]).name
    digest = _BLOB.fullmatch(name)
    if digest is None:
        return "the model's file is not in a store of Ollama's layout"
    for path in (Path(files[0]), *(store / "blobs" / name for store in stores)):
        try:
            if not path.is_file():
                continue
            model = read_gguf(path)
        except OSError:
            continue  # a folder that is not ours to look into
        except LoupeError as error:
            return error.message
        if not _same_tensors(model, detail):
            return f"{path} does not hold the tensors that the host shows"
        return SourceFile(model, digest[1])
    return "this machine cannot read the model's file"


def verify(source: SourceFile, on_progress: Callable[[int, int], None], left: threading.Event) -> None:
    """Raises `IntegrityError` for other content than the name promises, `StoreError`, and `Cancelled` once `left` is
    set. A file found right is not read again while it does not change. Blocks."""
    try:
        status = source.path.stat()
        key = (str(source.path), status.st_size, status.st_mtime_ns)
        if key in _verified:
            return
        found, done = hashlib.sha256(), 0
        with source.path.open("rb") as file:
            while piece := file.read(_PIECE):
                if left.is_set():
                    raise Cancelled("stop")
                found.update(piece)
                done += len(piece)
                on_progress(done, status.st_size)
    except OSError as error:
        raise StoreError(f"the model file {source.path} cannot be read: {error.strerror}") from error
    if found.hexdigest() != source.sha256:
        raise IntegrityError(str(source.path), source.sha256, found.hexdigest())
    _verified.add(key)


def _same_tensors(model: GgufFile, detail: ModelDetail) -> bool:
    shown = {(tensor.name, tensor.type.upper(), tensor.shape) for tensor in detail.tensors}
    return not shown or shown == {(tensor.name, tensor.type, tensor.shape) for tensor in model.tensors}
