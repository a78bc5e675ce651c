"""Row 25: a damaged conversation file does not brick the app: set aside, backup offered, chats go on."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from app.core.conversations import MessageState, StoredMessage
from app.core.errors import ConversationNotFound, LoupeError
from app.core.ports import SystemClock
from app.services.history import History
from app.services.history_backups import HistoryBackups
from app.services.history_file import HistoryFile
from proving.promises import Run, promise

NEVER = "damaged files never set aside"
CHATS = 12
WITHIN = 5.0


async def _written(folder: Path) -> tuple[Path, str]:
    """A history with some chats and a backup of it; the name of the backup."""
    path = folder / "loupe.db"
    history = History(f"sqlite:///{path}")
    await history.open()
    for number in range(CHATS):
        await _say(history, f"question {number} " + "word " * 60)
    backup = await HistoryBackups(history, SystemClock()).make()
    await history.close()
    return path, backup.name


async def _say(history: History, text: str) -> None:
    chat = await history.create("local", model="m:q8_0")
    _, answer = await history.begin_turn(chat.id, "local", ask=text)
    await history.finish(StoredMessage(answer.id, "assistant", f"about {text}", 1.0, MessageState.COMPLETE))


async def _usable(history: History) -> bool:
    """Everything listed can be opened and a new chat is kept; one refusal in between is allowed: the user is told."""
    for attempt in range(2):
        try:
            for row in await history.conversations("local"):
                with contextlib.suppress(ConversationNotFound):  # the damage is in its own name
                    await history.get(row.id, "local")
            await _say(history, f"after all {attempt}")
        except LoupeError:
            continue
        return True
    return False


def _damages(run: Run) -> Iterator[tuple[str, int, int]]:
    """(file's ending, offset in thousandths, bits to flip); whole pages and headers of both files among them."""
    yield from (("", 0, 0xFF), ("-wal", 0, 0xFF))
    for _ in range(run.scale(short=14, full=198)):
        yield run.random.choice(["", "", "-wal"]), run.random.randrange(1000), 1 << run.random.randrange(8)


def _spoil(run: Run, path: Path, offset: int, bits: int) -> None:
    blob = bytearray(path.read_bytes())
    if blob:
        at = min(len(blob) - 1, offset * len(blob) // 1000 + run.random.randrange(1 + len(blob) // 1000))
        for place in range(at, min(len(blob), at + (100 if bits == 0xFF else 1))):
            blob[place] ^= bits
        path.write_bytes(blob)


@promise(25, "A damaged history does not brick the app", section="history", controls=(NEVER,),
         figure="usable within 5 s after any damage; the file kept, its backup brought back whole")  # fmt: skip
async def a_damaged_history_does_not_brick_the_app(run: Run) -> None:
    base = run.folder / "base"
    base.mkdir(exist_ok=True)
    path, backup = await _written(base)
    careless = mock.patch.object(HistoryFile, "set_aside", lambda self, found: None)
    lost = 0
    for number, (ending, offset, bits) in enumerate(_damages(run)):
        folder = run.folder / f"trial {number}"
        shutil.copytree(base, folder)
        spoilt = folder / f"{path.name}{ending}"
        if spoilt.exists():
            _spoil(run, spoilt, offset, bits)
        history = History(f"sqlite:///{folder / path.name}")
        began = time.monotonic()
        with careless if run.off else contextlib.nullcontext():
            try:
                await history.open()
                usable = await _usable(history)
            except Exception:
                usable = False
        seconds = time.monotonic() - began
        run.measure("start to usable, s", seconds)
        run.trial(usable and seconds <= WITHIN, f"damage {number} at {offset}/1000 of {spoilt.name}: {seconds:.1f} s")
        if usable and history.damage is not None:
            lost += 1
            came = await HistoryBackups(history, SystemClock()).bring_back(backup)
            run.trial(came == CHATS, f"damage {number}: {came} of {CHATS} came back")
            run.require(bool(list(folder.glob("*.damaged-*"))), "the damaged file was not kept")
        await history.close()
    run.measure("files set aside", lost)
    run.require(lost > 0 or bool(run.off), "no damage was ever found")
