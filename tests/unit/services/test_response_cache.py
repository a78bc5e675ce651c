"""The cache: the right key, complete answers only, every bit checked, nothing unpickled, and never in a chat's way."""

from __future__ import annotations

import asyncio
import os
import pickle  # noqa: TID251  # the attack is made with it
import shutil
import sqlite3
import stat
import threading
from pathlib import Path

import pytest
from diskcache import Cache, Disk, JSONDisk
from hypothesis import given
from hypothesis import strategies as st

from app.core.generation import Chunk, GenerationRequest
from app.services.bytes_disk import ENTRY_LIMIT, BytesDisk
from app.services.cached_answer import Origin, StoredAnswer, cache_key, decode, encode
from app.services.response_cache import ResponseCache
from tests.fakes import DIGEST, MODEL, FakeClock, answer, chat, chunk

pytestmark = pytest.mark.anyio
ABOUT = {"digest": "d", "template_digest": "", "server": "ollama 0.33.0", "context": 4096, "namespace": "local"}
LIMIT = 64 << 20
ORIGIN = Origin(MODEL, DIGEST, question="Name the capital of France.")


@pytest.fixture
async def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
async def cache(folder, clock):
    cache = ResponseCache(folder, LIMIT, clock)
    await cache.start()
    yield cache
    await cache.close()


async def reopened(folder: Path, clock: FakeClock) -> ResponseCache:
    """A second process: the same folder, an empty memory."""
    cache = ResponseCache(folder, LIMIT, clock)
    await cache.start()
    return cache


async def put(cache: ResponseCache, key: str = "k", *texts: str) -> bool:
    return await cache.put(key, answer(*(texts or ("Paris", "."))), ORIGIN, seconds=1.5)


# Keys

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)
NAMES = st.sampled_from(["model", "prompt", "options", "system", "think", "format", "unknown"])


@given(st.dictionaries(NAMES, JSON), st.data())
def test_requests_that_differ_in_one_field_have_different_keys(body, data):
    name, value = data.draw(NAMES), data.draw(JSON)
    other = {**body, name: value}
    same = repr(sorted(body.items(), key=str)) == repr(sorted(other.items(), key=str))
    keys = [cache_key(GenerationRequest("generate", each), **ABOUT) for each in (body, other)]
    assert (keys[0] == keys[1]) is (same or (name in body and repr(body[name]) == repr(value)))


@pytest.mark.parametrize("field", ABOUT)
def test_everything_an_answer_depends_on_is_in_the_key(field):
    assert cache_key(chat(), **ABOUT) != cache_key(chat(), **{**ABOUT, field: "other"})


def test_numbers_that_are_equal_to_python_are_different_requests():
    keys = {cache_key(chat(options={"seed": value}), **ABOUT) for value in (1, 1.0, True, "1")}
    assert len(keys) == 4


def test_delivery_is_not_in_the_key_and_the_endpoint_is():
    plain = cache_key(chat(), **ABOUT)
    assert cache_key(chat(stream=False, keep_alive="5m"), **ABOUT) == plain
    assert cache_key(GenerationRequest("generate", chat().body), **ABOUT) != plain


# Entries


async def test_an_answer_comes_back_chunk_by_chunk_with_its_age(cache, clock):
    assert cache.get("k") is None
    assert await put(cache)
    clock.advance(60)
    hit = cache.get("k")
    assert list(hit.chunks) == answer("Paris", ".")
    assert (hit.age, hit.seconds) == (60, 1.5)
    stats = await cache.stats()
    assert (stats.hits, stats.misses, stats.stored, stats.entries, stats.off) == (1, 1, 1, 1, "")
    assert (stats.seconds_saved, stats.tokens_saved) == (1.5, 2)


async def test_an_answer_survives_the_process(cache, folder, clock):
    await put(cache, "k", "Pa\u2028ris \u0085 <>")
    await cache.close()
    again = await reopened(folder, clock)
    assert again.get("k").chunks == tuple(answer("Pa\u2028ris \u0085 <>"))
    await again.close()


@pytest.mark.parametrize(
    ("chunks", "why"),
    [
        (answer("Paris")[:-1], "has no end"),
        ([], "is empty"),
        ([chunk("", done=True)], "has no text"),
        ([chunk("Paris"), chunk("", done=True, reason="load")], "ended for another reason"),
        ([Chunk(b'{"message":{"tool_calls":[]}}', "x"), chunk("", done=True)], "calls a tool"),
        ([Chunk(b"{}", "x", whole=True)], "is no stream"),
    ],
)
async def test_only_complete_answers_are_kept(cache, chunks, why):
    assert not await cache.put("k", chunks, ORIGIN, seconds=1), why
    assert cache.get("k") is None


async def test_an_answer_that_is_too_large_is_not_written(cache):
    noise = os.urandom(ENTRY_LIMIT).hex()
    assert not await put(cache, "k", noise)
    assert (await cache.stats()).entries == 0


@given(st.data())
def test_no_damaged_entry_is_read(data):
    blob = encode(StoredAnswer(tuple(answer("Paris", ".")), ORIGIN, 1.0, 2.0))
    assert decode(blob) is not None
    at = data.draw(st.integers(0, len(blob) - 1))
    flipped = blob[:at] + bytes([blob[at] ^ (1 << data.draw(st.integers(0, 7)))]) + blob[at + 1 :]
    assert decode(data.draw(st.sampled_from([blob[:at], flipped, blob + b"x"]))) is None


def rows(folder: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(folder / "cache.db") as database:
        database.execute(statement, values)
    database.close()


async def test_a_flipped_bit_is_a_miss_and_the_entry_is_deleted(cache, folder, clock):
    await put(cache)
    await cache.close()
    with sqlite3.connect(folder / "cache.db") as database:
        [(blob,)] = database.execute("SELECT value FROM Cache")
    database.close()
    rows(folder, "UPDATE Cache SET value = ?", blob[:-1] + bytes([blob[-1] ^ 1]))
    again = await reopened(folder, clock)
    assert again.get("k") is None
    stats = await again.stats()
    assert (stats.damaged, stats.entries, stats.off) == (1, 0, "")
    await again.close()


class Trap:
    """Pickled, it is code that makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def plant(folder: Path, mark: Path, disk: type[Disk]) -> None:
    """A row as an attacker with write access to the database makes it, found by an ordinary `get`."""
    rows(folder, "DELETE FROM Cache")
    key, raw = disk(str(folder)).put("k")
    insert = "INSERT INTO Cache (key, raw, store_time, access_time, mode, value) VALUES (?, ?, 0, 0, 4, ?)"
    rows(folder, insert, key, raw, pickle.dumps(Trap(mark)))


async def test_a_planted_pickle_is_a_miss_and_is_deleted(cache, folder, clock, tmp_path):
    await cache.close()
    plant(folder, tmp_path / "ran", BytesDisk)
    again = await reopened(folder, clock)
    assert again.get("k") is None
    stats = await again.stats()
    assert (stats.entries, stats.damaged) == (0, 1)
    assert await put(again)
    assert again.get("k") is not None
    await again.close()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("disk", [Disk, JSONDisk])
async def test_the_stock_disks_run_the_planted_code(cache, folder, tmp_path, disk):
    """The control: without our `Disk` the same row runs."""
    await cache.close()
    plant(folder, tmp_path / "ran", disk)
    with Cache(str(folder), disk=disk) as stock:
        try:
            stock.get("k")
        except Exception:  # noqa: S110  # JSONDisk fails after it has run the code
            pass
    assert (tmp_path / "ran").exists()


async def test_a_planted_file_name_reads_and_deletes_nothing(cache, folder, clock, tmp_path):
    await cache.close()
    secret = tmp_path / "secret"
    secret.write_bytes(b"mine")
    insert = (
        "INSERT INTO Cache (key, raw, store_time, access_time, mode, filename, size) VALUES ('k', 1, 0, 0, 2, ?, 4)"
    )
    rows(folder, insert, "../secret")
    again = await reopened(folder, clock)
    assert again.get("k") is None
    assert await put(again)
    await again.clear()
    await again.close()
    assert secret.read_bytes() == b"mine"


# Limits and failures


async def test_the_folder_is_for_its_owner_only(cache, folder, clock):
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    await cache.close()
    folder.chmod(0o755)
    again = await reopened(folder, clock)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    await again.close()


async def test_a_folder_of_another_user_is_refused(folder, clock, monkeypatch):
    folder.mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    cache = await reopened(folder, clock)
    assert not cache.on
    assert "another user" in (await cache.stats()).off
    await cache.close()


async def test_a_file_in_place_of_the_folder_turns_the_cache_off(folder, clock):
    folder.write_text("in the way")
    cache = await reopened(folder, clock)
    assert cache.get("k") is None
    assert not await put(cache)
    assert "FileExistsError" in (await cache.stats()).off
    folder.unlink()
    clock.advance(60)
    assert await put(cache), "after a minute it tries again"
    assert cache.get("k") is not None
    await cache.close()


async def test_a_full_disk_turns_the_cache_off_for_a_minute_and_fails_nothing(cache, clock, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Cache, "set", full)
        assert not await put(cache, "a")
    assert "No space left" in (await cache.stats()).off
    assert not await put(cache, "b")
    clock.advance(60)
    assert await put(cache, "c")
    assert (await cache.stats()).off == ""


@pytest.mark.parametrize("where", [0, 16, 100, 4096])
async def test_a_damaged_database_is_set_aside_and_begun_anew(cache, folder, clock, where):
    await put(cache)
    await cache.close()
    for left in folder.glob("cache.db-*"):
        left.unlink()
    body = bytearray((folder / "cache.db").read_bytes())
    body[where : where + 2000] = b"\xa5" * 2000
    (folder / "cache.db").write_bytes(body)
    again = await reopened(folder, clock)
    again.get("k")
    await put(again)
    clock.advance(60)
    assert await put(again, "after")
    assert again.get("after") is not None
    await again.close()


async def test_the_size_is_bounded(folder, clock):
    small = ResponseCache(folder, 2 << 20, clock)
    await small.start()
    for number in range(400):
        await put(small, str(number), os.urandom(9000).hex())
    stats = await small.stats()
    on_disk = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert stats.entries < 400
    assert on_disk <= 1.1 * (2 << 20) + (16 << 20)
    await small.close()


async def test_clear_and_delete_forget_memory_and_disk(cache):
    await put(cache, "a")
    await put(cache, "b")
    await cache.delete("a", "local")
    assert cache.get("a") is None
    assert cache.get("b") is not None
    assert await cache.clear() == 1
    assert cache.get("b") is None


async def test_memory_answers_when_the_disk_is_gone(cache, folder):
    await put(cache)
    shutil.rmtree(folder)
    assert cache.get("k") is not None


async def test_what_comes_while_the_disk_is_busy_is_written_together_and_a_close_waits_for_it(folder, clock):
    cache = ResponseCache(folder, LIMIT, clock)
    await cache.start()
    free, transactions = threading.Event(), []

    def hold(disk: Cache) -> None:
        whole = disk.transact
        disk.transact = lambda *words: transactions.append(1) or whole(*words)
        assert free.wait(30)

    held = asyncio.create_task(cache._store.run(hold))
    keeping = [asyncio.create_task(put(cache, str(number))) for number in range(5)]
    await asyncio.sleep(0)
    late = asyncio.create_task(put(cache, "late"))
    while cache._store._batch is None:
        await asyncio.sleep(0)
    closing = asyncio.create_task(cache.close())
    free.set()
    assert await asyncio.gather(*keeping, late) == [True] * 6
    await asyncio.gather(held, closing)
    assert 0 < len(transactions) <= 3
    again = await reopened(folder, clock)
    assert all(again.get(key) for key in (*map(str, range(5)), "late"))
    await again.close()
