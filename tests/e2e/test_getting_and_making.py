"""From no model to two quantizations of one, as a user does it: pull, make, chat with each, delete.

The pull comes from a registry on loopback whose connection breaks once, goes on through a reload, is cancelled in the
middle and resumed. Once with Loupe's own runtime, once with `OLLAMA_HOST` at a server that is not ours.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Locator, expect

from app.runtime.model_store import ModelStore
from tests.e2e.chat_page import SECONDS, ChatPage
from tests.served import Served, http, served_app, served_runtime
from tests.starter_cache import starter_store
from tests.stub_registry import Answer, StubRegistry

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.timeout(300)
TAG = "135m-instruct-fp16"
QUESTION = "What is the capital of France?"
MADE = ("Q4_K_M", "Q6_K")  # the host's own create makes the first one; the second is made by Loupe and uploaded
CUT, HELD = 8_000_000, 30_000_000  # bytes of a part


class HeldRegistry:
    """A registry in a thread that has the starter's 16-bit model. Of its three parts the first breaks off once, the
    others stop until `go_on` is called."""

    def __init__(self) -> None:
        self.stub = StubRegistry()
        self.gate = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()), daemon=True)
        manifest = ModelStore(starter_store()).manifest(f"smollm2:{TAG}")
        for layer in manifest.everything:
            self.stub.add_blob(ModelStore(starter_store()).blob_path(layer.digest).read_bytes(), layer.media_type)
        self.stub.publish_manifest("library/smollm2", TAG, manifest.raw)
        self.storage = f"storage {manifest.layers[0].digest}"
        self.size = manifest.layers[0].size
        held = [Answer(hold=HELD, gate=self.gate) for _ in range(2)]
        self.stub.tell(self.storage, Answer(cut=CUT), *held)

    async def _serve(self) -> None:
        async with self.stub.running():
            self._up.set()
            await self._over.wait()

    def __enter__(self) -> HeldRegistry:
        self._thread.start()
        assert self._up.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(20)
        self._loop.close()

    @property
    def ranges(self) -> list[tuple[int, int]]:
        return [seen.range for seen in self.stub.asked(self.storage) if seen.range]


@contextmanager
def loupe_without_models(where: str, folder: Path) -> Iterator[Served]:
    if where == "embedded":
        with served_app(folder / "data", LOUPE_STARTER="off") as app:
            yield app
        return
    with served_runtime(folder / "store", folder / "runtime.log") as runtime:
        runtime.wait_ready("/api/version")
        with served_app(folder / "data", LOUPE_STARTER="off", OLLAMA_HOST=runtime.url) as app:
            yield app


def listed(app: Served) -> list[str]:
    return [str(model["name"]) for model in json.loads(http(f"{app.url}/api/tags")[1])["models"]]


def row(page: Page, label: str) -> Locator:
    return page.locator("[class*='st-key-variant-']").filter(has=page.get_by_text(label, exact=True))


@pytest.mark.parametrize("where", ["embedded", "separate"])
def test_from_no_model_to_two_quantizations_that_answer(where: str, tmp_path: Path, page: Page) -> None:
    with HeldRegistry() as registry, loupe_without_models(where, tmp_path) as app:
        app.wait_ready("/healthz")  # not /readyz, which waits for a model
        page.goto(app.url)
        page.get_by_role("link", name="Get a model").click(timeout=SECONDS)  # from the empty chat
        name = registry.stub.name(f"library/smollm2:{TAG}")
        pull(page, f"http://{name}")
        follow_the_pull(page, registry)
        expect(row(page, "F16")).to_be_visible(timeout=2 * SECONDS)
        assert listed(app) == [name]

        make(page)
        for label in MADE:
            expect(row(page, label).get_by_role("button", name="Load")).to_be_visible(timeout=3 * SECONDS)
        assert len(listed(app)) == 3

        for label in MADE:
            chat_with(page, app, label)

        delete(page, app, "Q6_K")
        assert len(listed(app)) == 2


def pull(page: Page, tag: str) -> None:
    box = page.get_by_label("Tag")
    box.fill(tag)
    box.press("Enter")
    expect(page.locator(".lp-job")).to_contain_text("Getting", timeout=SECONDS)


def follow_the_pull(page: Page, registry: HeldRegistry) -> None:
    """Reload in the middle, cancel, reload again, resume: each byte comes once, but for what was under way."""
    job = page.locator(".lp-job")
    expect(job).to_contain_text(re.compile(r"1\d\d MiB of 258 MiB"), timeout=SECONDS)
    assert any(start % 100_000_000 >= CUT // 2 for start, _ in registry.ranges), "the part that broke was not resumed"
    page.reload()
    expect(job).to_contain_text("of 258 MiB", timeout=SECONDS)
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(job).to_contain_text("are kept", timeout=SECONDS)
    page.reload()
    page.get_by_role("button", name="Resume", exact=True).click(timeout=SECONDS)
    expect(job).to_have_count(0, timeout=2 * SECONDS)
    assert sum(registry.stub.sent.values()) < registry.size * 1.25


def make(page: Page) -> None:
    page.get_by_role("button", name="Make a second one").click(timeout=SECONDS)
    dialog = page.get_by_role("dialog")
    for label in MADE:
        dialog.get_by_text(label, exact=True).click(timeout=SECONDS)
    expect(dialog.get_by_text(re.compile(r"2\d\d MiB more on the disk, about .*\d s"))).to_be_visible(timeout=SECONDS)
    dialog.get_by_role("button", name="Make 2 quantizations").click()
    expect(dialog).to_have_count(0, timeout=SECONDS)


def chat_with(page: Page, app: Served, label: str) -> None:
    page.goto(f"{app.url}/models")
    row(page, label).get_by_role("link", name="Chat").click(timeout=SECONDS)
    chat = ChatPage(page, app.url)
    expect(chat.composer).to_be_enabled(timeout=SECONDS)
    expect(page.locator(".st-key-variant")).to_contain_text(label, timeout=SECONDS)
    chat.set_parameter("Temperature", "0")
    chat.set_parameter("Longest answer", "24")
    chat.ask(QUESTION)
    assert "Paris" in chat.read()
    assert label in chat.footer()


def delete(page: Page, app: Served, label: str) -> None:
    page.goto(f"{app.url}/models")
    variant = row(page, label)
    variant.get_by_role("button", name="Delete").click(timeout=SECONDS)
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text(re.compile(r"Frees 1\d\d MiB"))).to_be_visible(timeout=SECONDS)
    dialog.get_by_role("button", name=f"Delete {label}").click()
    expect(variant).to_have_count(0, timeout=SECONDS)
