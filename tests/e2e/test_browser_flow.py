"""The first promise, as a user meets it: a real model in a real browser.

Ask and read Paris; stop in mid-answer; switch the variant inside the conversation; reload in mid-answer; kill -9 and
find the conversation again. Once with Loupe's own runtime, once with `OLLAMA_HOST` at a server that is not ours.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from playwright.sync_api import expect

from tests.e2e.chat_page import SECONDS, ChatPage
from tests.runtime_process import words_of
from tests.served import Served, family_of, free_port, gone, http, served_app, served_runtime, wait_for
from tests.starter_cache import linked_store

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.timeout(400)
TAGS = ("fp16", "q8_0", "q4_K_M")
QUESTION = "What is the capital of France?"
LONG = "Write a very long story about a lighthouse keeper, in many paragraphs."


@contextmanager
def loupe(where: str, folder: Path) -> Iterator[tuple[Served, dict[str, str]]]:
    """A running Loupe with the ladder in its own runtime, or in a separate server; and how to start it again."""
    environment = {"LOUPE_STARTER": "off"}
    if where == "embedded":
        (folder / "data").mkdir(mode=0o700)
        linked_store(folder / "data" / "models", TAGS)
        with served_app(folder / "data", **environment) as app:
            yield app, environment
        return
    with served_runtime(linked_store(folder / "store", TAGS), folder / "runtime.log") as runtime:
        runtime.wait_ready("/api/version")
        environment["OLLAMA_HOST"] = runtime.url
        with served_app(folder / "data", **environment) as app:
            yield app, environment


def running(app: Served) -> int:
    return len(json.loads(http(f"{app.url}/loupe/queue")[1])["running"])


def listed(app: Served) -> list[str]:
    return [str(model["name"]) for model in json.loads(http(f"{app.url}/api/tags")[1])["models"]]


def model_workers() -> list[psutil.Process]:
    """The processes of this test's servers that run a model."""
    return [child for child in family_of(os.getpid()) if any(word.endswith("worker.py") for word in words_of(child))]


@contextmanager
def held_still(processes: list[psutil.Process]) -> Iterator[None]:
    """Nothing they write goes on before the end (SIGSTOP)."""
    assert processes
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()


@pytest.mark.parametrize("where", ["embedded", "separate"])
def test_ask_stop_switch_reload_and_survive_a_kill(where: str, tmp_path: Path, page: Page) -> None:
    with loupe(where, tmp_path) as (app, environment):
        app.wait_ready()
        chat = ChatPage(page, app.url)
        chat.open()
        chat.set_parameter("Temperature", "0")
        chat.set_parameter("Longest answer", "600")  # so small a model may never end by itself

        chat.ask(QUESTION)
        assert "Paris" in chat.read()
        assert "TTFT" in chat.footer() and "tok/s" in chat.footer()
        chat_id = chat.chat_id()

        assert "Q8_0" in chat.footer()  # what a new chat with so small a model begins with

        chat.choose_variant("F16")
        chat.ask(QUESTION)
        assert "Paris" in chat.read()
        assert "F16" in chat.footer()

        chat.ask(LONG)
        part = chat.wait_for_text(80)
        chat.stop_button.click()
        wait_for("the slot to be free within a second of Stop", lambda: running(app) == 0, 1.0, every=0.01)
        assert len(chat.read()) >= len(part) - 40  # the waiting line is gone, the text is not

        chat.ask(LONG)
        part = chat.wait_for_text(120)
        with held_still(model_workers()):  # or so small a model ends its story before the page is back
            page.reload()
            expect(chat.questions).to_have_count(4, timeout=SECONDS)
            assert running(app) == 1, "no answer was still being written after a reload"
            chat.wait_for_text(len(part) - 40)
        chat.wait_for_text(len(part) + 20)

        with held_still(model_workers()):
            assert running(app) == 1, "the answer had ended before the kill"
            family = app.kill()
        wait_for("every process to be gone", lambda: gone(family), 3.0)
        port = int(app.url.rpartition(":")[2])
        with served_app(tmp_path / "data", port, **environment) as again:
            again.wait_ready()
            chat.open(f"/?chat={chat_id}")
            expect(chat.answers).to_have_count(4, timeout=SECONDS)
            assert "Paris" in chat.answers.first.inner_text()
            assert len(chat.answer.inner_text()) > 100
            expect(page.get_by_text("interrupted", exact=False)).to_be_visible()
            chat.ask(QUESTION)
            assert "Paris" in chat.read()


def test_the_page_recovers_by_itself_when_its_server_comes_back(tmp_path: Path, page: Page) -> None:
    port, store = free_port(), linked_store(tmp_path / "store", TAGS)
    with served_app(tmp_path / "data", OLLAMA_HOST=f"127.0.0.1:{port}") as app:
        app.wait_ready("/healthz")
        chat = ChatPage(page, app.url)
        with served_runtime(store, tmp_path / "runtime.log", port) as runtime:
            runtime.wait_ready("/api/version")
            app.wait_ready()
            chat.open()
            chat.ask(QUESTION)
            chat.read()
        expect(page.get_by_text("does not answer")).to_be_visible(timeout=SECONDS)
        expect(page.get_by_text("ollama serve")).to_be_visible()
        with served_runtime(store, tmp_path / "runtime.log", port) as runtime:
            runtime.wait_ready("/api/version")
            expect(page.get_by_text("does not answer")).to_have_count(0, timeout=5_000)
            chat.ask(QUESTION)
            chat.read()


def test_an_empty_machine_answers_while_the_ladder_is_still_being_made(tmp_path: Path, page: Page) -> None:
    with served_app(tmp_path / "data") as app:
        app.wait_ready(seconds=120)
        chat = ChatPage(page, app.url)
        chat.open()
        chat.set_parameter("Temperature", "0")
        chat.ask(QUESTION)
        assert "Paris" in chat.read()
        page.goto(f"{app.url}/models")
        expect(page.get_by_text("4-bit file")).to_be_visible(timeout=SECONDS)
        expect(page.locator("[class*='st-key-variant-']")).to_have_count(8, timeout=SECONDS)
        wait_for("all eight variants", lambda: len(listed(app)) == 8, 120)
        for tag in ("q2_K", "q8_0"):
            name = f"smollm2:135m-instruct-{tag}"
            assert name in listed(app)
            status, body = http(
                f"{app.url}/api/chat",
                {"model": name, "stream": False, "options": {"temperature": 0, "num_predict": 24},
                 "messages": [{"role": "user", "content": QUESTION}]},
            )  # fmt: skip
            assert status == 200 and "Paris" in json.loads(body)["message"]["content"]
