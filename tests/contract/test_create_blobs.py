"""Uploading: bounded, hashed, whole or not there, whatever the client does."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from app.core.errors import BadRequest, DiskFull, PayloadTooLarge
from app.runtime.blob_upload import has_blob, upload_blob
from app.runtime.model_store import ModelStore
from tests.creating import pieces

pytestmark = pytest.mark.anyio
CONTENT = b"0123456789abcdef" * 200_000
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def store(tmp_path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def names(store: ModelStore) -> list[str]:
    return sorted(path.name for path in store.blobs.iterdir()) if store.blobs.is_dir() else []


@pytest.mark.parametrize("size", [1, 1000, 65_536, 1 << 20, 10 << 20])
async def test_an_upload_in_pieces_of_any_size_is_the_same_blob(store, size):
    content = CONTENT[:5000] if size == 1 else CONTENT
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert await upload_blob(store, digest, pieces(content, size)) == 201
    assert store.blob_path(digest).read_bytes() == content
    assert store.blob_path(digest).stat().st_mode & 0o777 == 0o644
    assert names(store) == [store.blob_path(digest).name]


async def test_an_empty_blob_is_one_too(store):
    digest = f"sha256:{hashlib.sha256(b'').hexdigest()}"
    assert await upload_blob(store, digest, pieces(b"")) == 201
    assert has_blob(store, digest)


async def test_a_blob_under_a_wrong_digest_is_kept_under_its_own(store):
    wrong = f"sha256:{'0' * 64}"
    with pytest.raises(BadRequest) as caught:
        await upload_blob(store, wrong, pieces(CONTENT))
    assert caught.value.message == f'digest mismatch, expected "{wrong}", got "{DIGEST}"'
    assert not has_blob(store, wrong)
    assert store.blob_path(DIGEST).read_bytes() == CONTENT


@pytest.mark.parametrize("spelling", [DIGEST.upper().replace("SHA256", "sha256"), DIGEST.replace(":", "-")])
async def test_another_spelling_of_the_digest_is_another_digest(store, spelling):
    """Ollama compares the texts; with the dash the blob is found afterwards, because that is its file's name."""
    with pytest.raises(BadRequest, match="digest mismatch"):
        await upload_blob(store, spelling, pieces(CONTENT))
    assert has_blob(store, DIGEST)


@pytest.mark.parametrize("digest", ["", "sha256:12", "md5:" + "0" * 64, "sha256:" + "g" * 64, "sha256:../../../x", "x"])
async def test_what_is_no_digest_is_refused_and_nothing_read(store, digest):
    with pytest.raises(BadRequest, match="invalid digest format"):
        await upload_blob(store, digest, unread())
    with pytest.raises(BadRequest, match="invalid digest format"):
        has_blob(store, digest)
    assert names(store) == []


async def unread():
    raise AssertionError("the body was read")
    yield b""


async def test_more_than_the_limit_is_refused_when_it_comes_and_before_if_it_is_promised(store):
    taken: list[int] = []
    with pytest.raises(PayloadTooLarge) as caught:
        await upload_blob(store, DIGEST, pieces(CONTENT, 65_536, taken.append), limit=1_000_000)
    assert (caught.value.status, caught.value.limit) == (413, 1_000_000)
    assert taken[-1] <= 1_000_000
    with pytest.raises(PayloadTooLarge):
        await upload_blob(store, DIGEST, unread(), limit=1_000_000, expected=1_000_001)
    assert names(store) == []


async def test_more_than_the_disk_has_room_for_is_refused_before_it_comes(store):
    with pytest.raises(DiskFull, match="no space left for the model store"):
        await upload_blob(store, DIGEST, unread(), limit=1 << 62, expected=1 << 60)
    assert names(store) == []


async def test_a_client_that_breaks_off_leaves_nothing(store):
    def broken(offset: int) -> None:
        if offset > 2 << 20:
            assert len(names(store)) == 1  # so far it is on disk
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await upload_blob(store, DIGEST, pieces(CONTENT, before=broken))
    assert names(store) == []


async def test_a_cancelled_upload_leaves_nothing(store):
    reached = asyncio.Event()

    async def held():
        yield CONTENT
        reached.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(upload_blob(store, DIGEST, held()))
    await asyncio.wait_for(reached.wait(), 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert names(store) == []


async def test_two_uploads_of_one_blob_at_once_make_one_blob(store):
    both = await asyncio.gather(*(upload_blob(store, DIGEST, pieces(CONTENT)) for _ in range(2)))
    assert both == [201, 201]
    assert names(store) == [store.blob_path(DIGEST).name]


async def test_a_blob_that_was_cut_short_is_replaced(store):
    assert await upload_blob(store, DIGEST, pieces(CONTENT)) == 201
    wrong = f"sha256:{'0' * 64}"
    store.blob_path(DIGEST).write_bytes(CONTENT[:100])
    with pytest.raises(BadRequest, match="digest mismatch"):  # the digest of what was cut is asked for elsewhere
        await upload_blob(store, wrong, pieces(CONTENT))
    assert store.blob_path(DIGEST).read_bytes() == CONTENT


async def test_the_event_loop_goes_on_during_an_upload(store):
    async def all_at_once():
        yield CONTENT * 20

    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    await upload_blob(store, f"sha256:{hashlib.sha256(CONTENT * 20).hexdigest()}", all_at_once())
    ticking.cancel()
    assert ticks > 100
