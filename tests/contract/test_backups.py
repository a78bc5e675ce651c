"""`python -m app backup` and `restore`, the routes behind them, and a start on a damaged file: a real process."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

from app.services.history import History
from tests.served import ROOT, free_port, http, served_app

CHATS = 3


def command(data: Path, *arguments: str) -> tuple[int, str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LOUPE_", "OLLAMA_"))}
    done = subprocess.run(
        [sys.executable, "-m", "app", *arguments], cwd=ROOT, text=True, capture_output=True, timeout=60,
        env=clean | {"LOUPE_DATA": str(data)}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


async def _fill(data: Path) -> None:
    history = History(f"sqlite:///{data / 'loupe.db'}")
    await history.open()
    for number in range(CHATS):
        chat = await history.create("local", model="m")
        await history.begin_turn(chat.id, "local", ask=f"question {number}")
    await history.close()


def test_conversations_are_backed_up_and_brought_back_after_their_file_was_damaged(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy.db"
    data.mkdir(mode=0o700)
    asyncio.run(_fill(data))
    nowhere = {"OLLAMA_HOST": f"http://127.0.0.1:{free_port()}"}
    with served_app(data, **nowhere) as app:
        app.wait_ready("/healthz")
        assert command(data, "backup", str(copy)) == (0, f"{CHATS} conversations in {copy}\n", "")
        told = json.loads(http(app.url + "/loupe/history/backups")[1])
        assert told["damage"] is None and {b["conversations"] for b in told["backups"]} == {CHATS}
        name = told["backups"][0]["name"]
        with urllib.request.urlopen(f"{app.url}/loupe/history/backups/{name}", timeout=20) as fetched:
            assert fetched.read() == copy.read_bytes() and name in fetched.headers["content-disposition"]
        assert http(f"{app.url}/loupe/history/backups/loupe.db")[0] == 400
        status, _, said = command(data, "restore", "conversations-20200101-000000.db")
        assert status == 1 and "no backup named" in said
        assert http(app.url + "/loupe/history/restore", {"name": "../loupe.db"})[0] == 400
        assert app.terminate() == 0
    for backup in (data / "backups").iterdir():
        backup.unlink()
    (data / "loupe.db").write_bytes(b"\0" * 9000)
    with served_app(data, **nowhere) as app:
        app.wait_ready("/healthz")
        told = json.loads(http(app.url + "/loupe/history/backups")[1])
        assert told["damage"]["kept_as"].startswith("loupe.damaged-") and (data / told["damage"]["kept_as"]).exists()
        assert command(data, "restore")[:2] == (0, "")
        came = f"{CHATS} conversations came back; what was here is as it was\n"
        assert command(data, "restore", str(copy))[:2] == (0, came)
        assert json.loads(http(app.url + "/loupe/history/backups")[1])["damage"] is None
        status, _, said = command(data, "restore", str(tmp_path / "serve.log"))
        assert status == 1 and "cannot be used" in said
