"""Row 22: whoever could write into the cache's database still runs no code with it and reaches no other file."""

from __future__ import annotations

import hashlib
import io
import json
import pickle  # noqa: TID251  # the attack is made with it
import sqlite3
import stat
import zlib
from collections.abc import Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

from diskcache import JSONDisk

from app.core.ports import SystemClock
from app.services import cache_store
from app.services.bytes_disk import BytesDisk
from app.services.cached_answer import _HEADER, _MAGIC, VERSION
from app.services.response_cache import Origin, ResponseCache
from proving.cache_rig import replaced
from proving.promises import Run, promise
from tests.fakes import MODEL, answer

STOCK = "diskcache's own JSONDisk in place of ours"
SECRET = b"not the cache's"
KEY = "k"


class JsonDisk(JSONDisk):  # type: ignore[misc]  # diskcache has no types
    """The stock one, as the control needs it."""

    foreign = 0


class Trap:
    """Pickled, it is code that makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


class Planter:
    """Rows as an attacker with write access to the database makes them."""

    def __init__(self, folder: Path, mark: Path, disk: type) -> None:
        self.folder, self.mark = folder, mark
        self.key, self.raw = disk(str(folder)).put(KEY)

    def row(self, **columns: Any) -> None:
        told = {"key": self.key, "raw": self.raw, "store_time": 0, "access_time": 0, "mode": 1, "size": 0, **columns}
        names, marks = ", ".join(told), ", ".join("?" * len(told))
        self.execute(f"INSERT INTO Cache ({names}) VALUES ({marks})", *told.values())  # noqa: S608  # our own names

    def execute(self, statement: str, *values: Any) -> None:
        with closing(sqlite3.connect(self.folder / "cache.db")) as database, database:
            database.execute(statement, values)

    def pickled_value(self) -> None:
        self.row(mode=4, value=pickle.dumps(Trap(self.mark)))

    def pickled_key(self) -> None:
        self.row(key=pickle.dumps(Trap(self.mark)), raw=0, value=b"x")

    def pickled_file(self) -> None:
        (self.folder / "ab").mkdir(exist_ok=True)
        (self.folder / "ab" / "trap.val").write_bytes(pickle.dumps(Trap(self.mark)))
        self.row(mode=4, filename="ab/trap.val")

    def other_file_as_text(self) -> None:
        self.row(mode=3, filename="../secret")

    def other_file_as_bytes(self) -> None:
        self.row(mode=2, filename="../secret", size=len(SECRET))

    def absolute_file(self) -> None:
        self.row(mode=2, filename=str(self.folder.parent / "secret"))

    def setting_that_hides_a_method(self) -> None:
        for name in ("get", "set", "_disk", "sqlite_mmap_size", "disk_put"):
            self.execute("INSERT OR REPLACE INTO Settings VALUES (?, 1)", name)

    def sealed_bomb(self) -> None:
        """A few bytes, rightly sealed, that unpack to a gigabyte."""
        top = json.dumps({"model": "m", "usage": None}).encode()
        packer, body = zlib.compressobj(9), io.BytesIO()
        for _ in range(64):
            body.write(packer.compress(bytes(1 << 20)))
        body.write(packer.flush())
        told = top + body.getvalue()
        seal = hashlib.sha256(told).digest()
        head = _HEADER.pack(_MAGIC, VERSION, len(top), zlib.crc32(top), len(told) - len(top), seal)
        self.row(value=head + told)

    def sealed_nonsense(self) -> None:
        top, body = b'{"usage":{"evil":1}}', zlib.compress(b'[[1,2,3],{"a":[]}]')
        seal = hashlib.sha256(top + body).digest()
        self.row(value=_HEADER.pack(_MAGIC, VERSION, len(top), zlib.crc32(top), len(body), seal) + top + body)

    def strange_types(self) -> None:
        self.row(value="text", mode="four", filename=7, tag=b"\xff", size="many")

    def trigger(self) -> None:
        self.execute("CREATE TRIGGER evil AFTER INSERT ON Cache BEGIN SELECT RAISE(ABORT, 'no'); END")

    def view_in_place_of_the_table(self) -> None:
        self.execute("DROP TABLE Cache")
        self.execute("CREATE VIEW Cache AS SELECT 1 AS key")


ATTACKS: tuple[Callable[[Planter], None], ...] = (
    Planter.pickled_value, Planter.pickled_key, Planter.pickled_file, Planter.other_file_as_text,
    Planter.other_file_as_bytes, Planter.absolute_file, Planter.setting_that_hides_a_method, Planter.sealed_bomb,
    Planter.sealed_nonsense, Planter.strange_types, Planter.trigger, Planter.view_in_place_of_the_table,
)  # fmt: skip


async def _opened(folder: Path) -> ResponseCache:
    cache = ResponseCache(folder, 64 << 20, SystemClock())
    await cache.start()
    return cache


async def _use(cache: ResponseCache) -> list[str]:
    """Everything that is done with a cache; what went wrong."""
    wrong = []
    if cache.get(KEY) is not None:
        wrong.append("it was served")
    await cache.entries("local")
    await cache.open(KEY, "local")
    [_ async for _ in cache.export("local")]
    await cache.stats()
    if not await cache.put(KEY, answer("Paris"), Origin(MODEL), seconds=1):
        wrong.append("nothing can be kept any more")
    elif cache.get(KEY) is None:
        wrong.append("what was kept is not found")
    await cache.clear()
    return wrong


async def _trial(run: Run, number: int, attack: Callable[[Planter], None]) -> None:
    place = run.folder / f"{number}"
    place.mkdir()
    folder, mark, secret = place / "cache", place / "ran", place / "secret"
    secret.write_bytes(SECRET)
    await (await _opened(folder)).close()
    attack(Planter(folder, mark, JsonDisk if run.off else BytesDisk))
    cache = await _opened(folder)
    try:
        wrong = await _use(cache)
    except Exception as error:
        wrong = [f"{type(error).__name__} came out of it"]
    await cache.close()
    wrong += ["code ran"] if mark.exists() else []
    wrong += ["another file was changed"] if not secret.exists() or secret.read_bytes() != SECRET else []
    wrong += ["others may look in"] if stat.S_IMODE(folder.stat().st_mode) != 0o700 else []
    run.trial(not wrong, f"{attack.__name__}: {', '.join(wrong)}")


async def _refusals(run: Run) -> None:
    """Folders that others could have filled are not used, and are left as they are."""
    for mode in (0o770, 0o777, 0o702):
        folder = run.folder / f"open {mode:o}"
        folder.mkdir()
        folder.chmod(mode)
        cache = await _opened(folder)
        kept = await cache.put(KEY, answer("Paris"), Origin(MODEL), seconds=1)
        why = (await cache.stats()).off
        await cache.close()
        run.trial(not kept and "others may write" in why, f"a folder of mode {mode:o} was used: {why!r}")


@promise(
    22,
    "Cache cannot run code or touch other files",
    section="cache",
    figure="planted pickles, keys, file names, settings, triggers and bombs are misses without an effect, and the "
    "cache goes on; its folder has mode 0700 and is refused where others may write",
    controls=(STOCK,),
)
async def cache_planted(run: Run) -> None:
    """F50: each attack on a database of its own, then everything that Loupe does with a cache."""
    async with AsyncExitStack() as stack:
        if run.off:
            stack.enter_context(replaced(cache_store, "BytesDisk", JsonDisk))
        for number in range(run.scale(short=1, full=20) * len(ATTACKS)):
            await _trial(run, number, ATTACKS[number % len(ATTACKS)])
        if not run.off:
            await _refusals(run)
