"""Damaged conversation files, backups and bringing them back, on real SQLite files."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.core.conversations import MessageState, StoredMessage
from app.core.errors import BadRequest, ConversationNotFound, DiskFull, StoreError
from app.services import history_file
from app.services.history import History
from app.services.history_backups import HistoryBackups
from tests.fakes import FakeClock

pytestmark = pytest.mark.anyio
FLIPS = int(os.environ.get("FLIP_TRIALS", "40"))


class Store:
    def __init__(self, folder: Path) -> None:
        self.path, self.clock = folder / "h.db", FakeClock()
        self.history = History(f"sqlite:///{self.path}", self.clock)
        self.backups = HistoryBackups(self.history, self.clock)

    async def say(self, text: str, *, model: str = "m:q8_0") -> str:
        chat = await self.history.create("local", model=model)
        _, answer = await self.history.begin_turn(chat.id, "local", ask=text)
        whole = StoredMessage(answer.id, "assistant", f"about {text}", 1.0, MessageState.COMPLETE)
        await self.history.finish(whole)
        return chat.id

    async def titles(self) -> list[str]:
        return sorted(row.title for row in await self.history.conversations("local"))

    def aside(self) -> list[Path]:
        return sorted(self.path.parent.glob("h.damaged-*.db"))


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Store]:
    store = Store(folder)
    await store.history.open()
    try:
        yield store
    finally:
        await store.history.close()


async def test_a_file_that_is_no_database_is_set_aside_whole_and_chats_go_on(tmp_path: Path) -> None:
    rubbish = b"not a database, but long enough to be taken for one" * 40
    (tmp_path / "h.db").write_bytes(rubbish)
    async with opened(tmp_path) as store:
        await store.say("hello")
        assert store.history.damage is not None and "not a database" in store.history.damage.found
        assert store.history.damage.kept_as == store.aside()[0]
        assert store.aside()[0].read_bytes() == rubbish
        assert await store.titles() == ["hello"]


async def test_a_backup_is_whole_private_and_brings_back_what_a_damaged_file_has_lost(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.say("one")
        await store.say("two")
        made = await store.backups.make()
        kept = tmp_path / "backups" / made.name
        assert (made.conversations, made.size) == (2, kept.stat().st_size)
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600 and stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    (tmp_path / "h.db").write_bytes(b"x" * 5000)
    for ending in ("-wal", "-shm"):
        (tmp_path / f"h.db{ending}").unlink(missing_ok=True)
    async with opened(tmp_path) as store:
        assert store.backups.damage is not None and await store.titles() == []
        await store.say("three")
        assert await store.backups.bring_back(made.name) == 2
        assert await store.titles() == ["one", "three", "two"]
        assert store.backups.damage is None
        chat = next(row for row in await store.history.conversations("local") if row.title == "one")
        assert [m.content for m in (await store.history.get(chat.id, "local")).messages] == ["one", "about one"]
        assert await store.backups.bring_back(made.name) == 0
        assert sorted(p.name for p in (tmp_path / "backups").iterdir()) == [made.name]


async def test_bringing_back_changes_nothing_that_is_there(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        chat = await store.say("one")
        made = await store.backups.make()
        await store.history.rename(chat, "renamed since")
        assert await store.backups.bring_back(made.name) == 0
        assert await store.titles() == ["renamed since"]


async def test_an_answer_that_was_being_written_comes_back_as_interrupted(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        chat = await store.history.create("local", model="m")
        await store.history.begin_turn(chat.id, "local", ask="hi")
        made = await store.backups.make()
        store.path.unlink()
    async with opened(tmp_path) as store:
        await store.backups.bring_back(made.name)
        states = [m.state for m in (await store.history.get(chat.id, "local")).messages]
    assert states == [MessageState.COMPLETE, MessageState.INTERRUPTED]


async def test_one_backup_a_day_and_three_are_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert await store.backups.make_if_due() is None, "nothing to keep yet"
        await store.say("one")
        names = []
        for _ in range(5):
            made = await store.backups.make_if_due()
            assert made is not None and await store.backups.make_if_due() is None
            names.append(made.name)
            store.clock.advance(24 * 3600 + 60)
        assert [backup.name for backup in await store.backups.list()] == names[:1:-1]


async def test_two_backups_in_one_second_are_two(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.say("one")
        assert len({(await store.backups.make()).name for _ in range(3)}) == 3


@pytest.mark.parametrize("name", ["../h.db", "h.db", "", "conversations-20260101-000000.db", "x" * 4000])
async def test_a_backup_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    async with opened(tmp_path) as store:
        with pytest.raises(BadRequest, match="no backup"):
            await store.backups.bring_back(name)


async def test_a_file_with_triggers_or_of_something_else_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.say("one")
        made = await store.backups.make()
        kept = tmp_path / "backups" / made.name
        with sqlite3.connect(kept) as evil:
            evil.execute("CREATE TRIGGER t AFTER INSERT ON messages BEGIN DELETE FROM conversations; END")
        with pytest.raises(BadRequest, match="triggers"):
            await store.backups.bring_back(made.name)
        with sqlite3.connect(kept) as other:
            other.execute("DROP TRIGGER t")
            other.execute("DROP TABLE messages")
        with pytest.raises(BadRequest, match="no table messages"):
            await store.backups.bring_back(made.name)
        assert await store.titles() == ["one"]


async def test_a_full_disk_leaves_no_half_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as store:
        await store.say("one")
        monkeypatch.setattr(history_file, "_flush", lambda path: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(StoreError, match="could not be written"):
            await store.backups.make()
        assert list((tmp_path / "backups").iterdir()) == []
        with pytest.raises(DiskFull):
            await store.history.on_file(lambda *_: (_ for _ in ()).throw(sqlite3.OperationalError("disk is full")))


async def test_a_history_of_a_newer_loupe_is_left_alone_and_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.say("one")
    with sqlite3.connect(tmp_path / "h.db") as other:
        other.execute("UPDATE alembic_version SET version_num = '0999'")
    with pytest.raises(StoreError, match="newer Loupe"):
        async with opened(tmp_path):
            pass
    assert Store(tmp_path).aside() == []


@pytest.mark.parametrize("trial", range(FLIPS))
async def test_any_flipped_byte_leaves_a_history_that_can_be_used(tmp_path: Path, trial: int) -> None:
    """Also where the damage shows only in the middle of the work: the next try goes through."""
    dice = random.Random(trial)
    async with opened(tmp_path) as store:
        for number in range(20):
            await store.say(f"question {number} " + "word " * 40)
    blob = bytearray((tmp_path / "h.db").read_bytes())
    blob[dice.randrange(len(blob))] ^= 1 << dice.randrange(8)
    (tmp_path / "h.db").write_bytes(blob)
    try:
        store = Store(tmp_path)
        await store.history.open()
    except StoreError as error:  # one flip can make this version look like a later one's: left alone, and said
        assert "newer Loupe" in error.message
        return
    try:
        for _ in range(2):
            failed = False
            try:
                for row in await store.history.conversations("local"):
                    with contextlib.suppress(ConversationNotFound):  # the flip was in its id
                        await store.history.get(row.id, "local")
                await store.say("after all")
            except StoreError:
                failed = True
        assert not failed
        assert "after all" in await store.titles()
    finally:
        await store.history.close()
