"""What kill -9 and SIGTERM may do to the whole product: end it, and nothing else."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.e2e.chat_page import ChatPage
from tests.served import gone, http, served_app, wait_for
from tests.starter_cache import linked_store

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.timeout(300)
TRIALS = int(os.environ.get("KILL_TRIALS", "4"))  # docs/development.md gives the command for thirty
LONG = "Write a very long story about a lighthouse keeper, in many paragraphs."
MODEL = "smollm2:135m-instruct-q8_0"


def data_with_models(folder: Path) -> Path:
    data = folder / "data"
    data.mkdir(mode=0o700)
    linked_store(data / "models", ("q8_0",))
    return data


@pytest.mark.timeout(120 + 20 * TRIALS)
def test_kill_9_loses_no_question_that_was_taken_and_leaves_no_process(tmp_path: Path, page: Page) -> None:
    data, rng, asked = data_with_models(tmp_path), random.Random(4), []
    for trial in range(TRIALS):
        with served_app(data, LOUPE_STARTER="off") as app:
            app.wait_ready()
            chat = ChatPage(page, app.url)
            chat.open()
            question = f"Trial {trial}. {LONG}"
            chat.ask(question)
            asked.append(question)
            page.wait_for_timeout(rng.uniform(0, 2500))  # at any moment of queue, load, prefill and decode
            family = app.kill()
            wait_for("every process of ours to be gone within 3 s", lambda family=family: gone(family), 3.0)
    with sqlite3.connect(data / "loupe.db") as stored:
        assert stored.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = stored.execute("SELECT content FROM messages WHERE role = 'user' ORDER BY created_at").fetchall()
    assert [content for (content,) in rows] == asked


def test_sigterm_lets_a_running_answer_end_refuses_new_work_and_exits_with_0(tmp_path: Path) -> None:
    with served_app(data_with_models(tmp_path), LOUPE_STARTER="off", LOUPE_DRAIN_SECONDS="60") as app:
        app.wait_ready()
        lines: list[bytes] = []
        begun = threading.Event()

        def read() -> None:
            body = {"model": MODEL, "prompt": LONG, "options": {"num_predict": 120, "temperature": 0}}
            with urllib.request.urlopen(f"{app.url}/api/generate", json.dumps(body).encode(), timeout=120) as answer:
                for line in answer:
                    lines.append(line)
                    begun.set()

        reader = threading.Thread(target=read)
        reader.start()
        assert begun.wait(60)
        family = app.family()
        app.process.terminate()
        wait_for("readiness to say no", lambda: http(f"{app.url}/readyz")[0] in (0, 503), 2.0)
        reader.join(90)
        assert app.process.wait(30) == 0
    last = json.loads(lines[-1])
    assert (last["done"], last["eval_count"]) == (True, 120)
    assert gone(family)


def test_sigterm_with_an_answer_that_takes_too_long_still_ends_with_one_line_and_0(tmp_path: Path) -> None:
    with served_app(data_with_models(tmp_path), LOUPE_STARTER="off", LOUPE_DRAIN_SECONDS="1") as app:
        app.wait_ready()
        body = {"model": MODEL, "prompt": LONG, "options": {"num_predict": 4000, "temperature": 0}}
        with urllib.request.urlopen(f"{app.url}/api/generate", json.dumps(body).encode(), timeout=60) as answer:
            first = answer.readline()
            began = time.monotonic()
            app.process.terminate()
            rest = answer.read().splitlines()
        assert json.loads(first)["done"] is False
        assert "error" in json.loads(rest[-1])
        assert app.process.wait(30) == 0
        assert time.monotonic() - began < 20


def test_a_worker_killed_in_mid_answer_is_one_clear_error_and_the_next_question_is_answered(tmp_path: Path) -> None:
    with served_app(data_with_models(tmp_path), LOUPE_STARTER="off") as app:
        app.wait_ready()
        body = {"model": MODEL, "prompt": LONG, "options": {"num_predict": 4000}}
        with urllib.request.urlopen(f"{app.url}/api/generate", json.dumps(body).encode(), timeout=60) as answer:
            answer.readline()
            workers = [p for p in app.family() if any(part.endswith("worker.py") for part in _command(p))]
            assert len(workers) == 1
            workers[0].kill()
            rest = answer.read().splitlines()
        assert [("error" in json.loads(line)) for line in rest].count(True) == 1
        assert "error" in json.loads(rest[-1])
        again = {"model": MODEL, "prompt": "What is the capital of France?", "options": {"temperature": 0}}
        status, reply = http(f"{app.url}/api/generate", {**again, "stream": False})
        assert status == 200 and "Paris" in json.loads(reply)["response"]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
