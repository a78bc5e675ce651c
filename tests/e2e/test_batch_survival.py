"""A batch of a real model through kill -9: begun, followed and fetched by the command line, each prompt answered once.

`BATCH_PROMPTS` says how many prompts (docs/batch.md gives the command for five hundred).
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.served import ROOT, Served, http, served_app, wait_for
from tests.starter_cache import linked_store

PROMPTS = int(os.environ.get("BATCH_PROMPTS", "30"))
pytestmark = [pytest.mark.model, pytest.mark.timeout(180 + PROMPTS)]
MODEL = "smollm2:135m-instruct-q4_0"
OPTIONS = {"num_predict": 2, "num_ctx": 512}


def command(app: Served, data: Path, *words: str) -> subprocess.Popen[str]:
    """`python -m app batch …` beside the running app."""
    port = app.url.rpartition(":")[2]
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("LOUPE_", "OLLAMA_", "OTEL_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "app", "batch", *words], cwd=ROOT, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**clean, "LOUPE_DATA": str(data), "LOUPE_PORT": port},
    )  # fmt: skip


def answered(data: Path) -> int:
    """How many prompts have their answer on the disk."""
    if not (data / "batches.db").exists():
        return 0
    with sqlite3.connect(f"file:{data / 'batches.db'}?mode=ro", uri=True) as stored:
        return int(stored.execute("SELECT count(*) FROM prompts WHERE state = 1").fetchone()[0])


def answers_of(figures: str) -> float:
    """How many requests this life of the process has answered, as /metrics tells it."""
    found = re.findall(r"^loupe_requests_total\{(.*)\} (\S+)$", figures, re.MULTILINE)
    return sum(float(count) for labels, count in found if 'status="ok"' in labels)


def test_kill_9_in_mid_batch_costs_no_answer_and_asks_nothing_twice(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    linked_store(data / "models", ("q4_0",))
    file, out = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps({"id": f"p{n}", "prompt": f"Say {n}."}) + "\n" for n in range(PROMPTS)))
    with served_app(data, LOUPE_STARTER="off") as app:
        app.wait_ready()
        words = ("--model", MODEL, "--options", json.dumps(OPTIONS), "--out", str(out))
        asking = command(app, data, str(file), *words)
        wait_for("a third on the disk", lambda: answered(data) >= PROMPTS // 3, 150)
        question = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "stream": False}
        status, body = http(f"{app.url}/api/chat", {**question, "options": OPTIONS})
        assert status == 200 and json.loads(body)["done"], body
        app.kill()
        _, told = asking.communicate(timeout=60)
        assert asking.returncode == 0 or "the running Loupe has gone" in told  # 0: it was done before the kill
        [batch_id] = re.findall(r"^Batch (\S+): \d+ prompts$", told, re.MULTILINE)
    before = answered(data)
    with served_app(data, LOUPE_STARTER="off") as app:
        app.wait_ready()
        fetching = command(app, data, "results", batch_id, "--out", str(out))
        said, told = fetching.communicate(timeout=120 + PROMPTS)
        assert fetching.returncode == 0, told
        assert f"{PROMPTS} of {PROMPTS} prompts answered in {out}: done" in said
        figures = http(f"{app.url}/metrics")[1].decode()
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == [f"p{n}" for n in range(PROMPTS)]
    assert all(row["error"] is None and row["finish_reason"] and row["host"] for row in rows)
    assert answers_of(figures) == PROMPTS - before
