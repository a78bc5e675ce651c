"""The registry that the recorded pulls ran against, on loopback, in a thread of its own: three names of the recorded
Q8_0 model, each served as its recording says."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from app.runtime.model_store import ModelStore
from tests.creating import FP16, UPLOADED, created, uploaded_gguf
from tests.starter_cache import CACHE
from tests.stub_registry import Answer, StubRegistry

RECORDED_HOST = b"127.0.0.1:5000"
Q8_0 = "smollm2:135m-instruct-q8_0"
WEIGHTS = "sha256:f7933c716a5b5334c54b997d1f6db3f38a0786c9046ac5f46311b396a3f1fe54"  # recording create_quantize_q8_0
_CUT_AFTER = 4 << 20
_PARTS = 2  # of 100 MB; the recorded model has 144,811,072 bytes


@cache
def recorded_store() -> ModelStore:
    """A store with the models that the session made first: F16 from the upload, Q8_0 from that. Made once, kept."""
    folder = CACHE / "golden-store"
    if not (folder / "manifests").is_dir():
        making = Path(tempfile.mkdtemp(dir=CACHE))
        store = ModelStore(making)
        store.add_blob(uploaded_gguf())
        for body in ({"model": FP16, "files": {"model.gguf": f"sha256:{UPLOADED}"}},
                     {"model": Q8_0, "from": FP16, "quantize": "q8_0"}):  # fmt: skip
            assert asyncio.run(created(store, body))[-1] == {"status": "success"}
        try:
            making.rename(folder)
        except OSError:  # another worker was faster
            shutil.rmtree(making)
    return ModelStore(folder)


class GoldenRegistry(StubRegistry):
    """Tells the truth until it is told otherwise."""

    def __init__(self) -> None:
        super().__init__()
        store = recorded_store()
        manifest = store.manifest(Q8_0)
        assert manifest.layers[0].digest == WEIGHTS
        for model in ("ok", "cut", "wrong"):
            self.manifests[f"library/{model}", "q8_0"] = manifest.raw
        self.blobs = {layer.digest: store.blob_path(layer.digest).read_bytes() for layer in manifest.everything}
        self._sound = self.blobs[WEIGHTS]
        self.silent_host = ""  # takes connections and closes them, as the recorded one did with those over TLS

    def host_for(self, case: str) -> str:
        return self.silent_host if case == "pull_insecure_refused" else self.host

    @staticmethod
    def cut_each_part_once(_: object, registry: GoldenRegistry) -> None:
        registry.tell(f"storage {WEIGHTS}", *(Answer(cut=_CUT_AFTER) for _ in range(_PARTS)))

    @staticmethod
    def flip_a_bit(_: object, registry: GoldenRegistry) -> None:
        """The very bit that was flipped in the session: the digest that was told for it fits no other."""
        registry.blobs[WEIGHTS] = registry._sound[:-1] + bytes([registry._sound[-1] ^ 1])

    @staticmethod
    def tell_the_truth(_: object, registry: GoldenRegistry) -> None:
        registry.blobs[WEIGHTS] = registry._sound


@contextmanager
def golden_registry() -> Iterator[GoldenRegistry]:
    registry = GoldenRegistry()
    loop = asyncio.new_event_loop()
    ready, over = threading.Event(), asyncio.Event()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(64)
        writer.close()

    async def serve() -> None:
        silent = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        registry.silent_host = f"127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        async with silent, registry.running():
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    try:
        assert ready.wait(30), "the registry did not start"
        yield registry
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(30)
        loop.close()
