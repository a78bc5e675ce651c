"""Chats over a cache whose disk is full: `python -m proving.cache_on_small_disk FOLDER CHATS ROOM HOW`.

HOW is `mount` (a file system of ROOM bytes; needs a mount namespace of its own, as `unshare -Urm` gives it) or `limit`
(no file may become larger than ROOM). Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from proving.cache_rig import layer
from tests.fakes import answer, chat


async def talk(folder: Path, chats: int) -> dict[str, Any]:
    """Ask `chats` different questions and some of them again; how many were answered, and what the cache says."""
    draw, answered, off, hits = random.Random(1), 0, "", 0  # noqa: S311  # the same each time
    async with layer(folder) as rig:
        for number in range(chats):
            text = f"{draw.getrandbits(8 * draw.choice([100, 2000, 40_000])):x}"
            rig.host.enqueue(*answer(text))
            told = await rig.ask(chat(f"question {number}", options={"temperature": 0, "num_ctx": 1024}))
            await rig.kept()
            answered += told == ("miss", text)
            again = await rig.ask(chat(f"question {number}", options={"temperature": 0, "num_ctx": 1024}))
            await rig.kept()
            answered += again[1] in (text, "Paris.")
            hits += again[0] == "hit"
            off = off or (await rig.cache.stats()).off
    return {"asked": 2 * chats, "answered": answered, "hits": hits, "off": off}


def main() -> None:
    folder, chats, room, how = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    folder.mkdir(mode=0o700)
    if how == "mount":
        words = ["mount", "-t", "tmpfs", "-o", f"size={room},mode=0700", "none", str(folder)]
        subprocess.run(words, check=True)  # noqa: S603  # our own words
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    print(json.dumps(asyncio.run(talk(folder, chats))), flush=True)


if __name__ == "__main__":
    main()
