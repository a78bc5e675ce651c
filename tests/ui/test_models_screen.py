"""The models screen: families, variants, load and unload, and every state it can be in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from app.core.errors import ModelLoadFailed
from app.core.hosts import HostState, HostStatus
from app.models.catalog import CatalogView
from app.services.jobs import JobHandle
from tests.ui import scenes
from tests.ui.fake_services import OLLAMA, FakeServices, loaded, qwen, smollm2
from tests.ui.pages import calm, html_of, labels_of, text_of

Open = Callable[..., AppTest]
Q4 = "smollm2:135m-instruct-q4_K_M"


def test_families_and_variants_with_size_bits_and_state(services: FakeServices, open_screen: Open) -> None:
    services.catalog.view = CatalogView((smollm2(q4_K_M={"loaded": loaded(Q4)}), qwen()), services.pool.hosts)
    words = text_of(calm(open_screen("models")))
    for expected in (
        "SmolLM2 135M Instruct",
        "Qwen3 4B Instruct 2507",
        "98.0 MiB",
        "2.33 GiB",
        "5.97 bpw",
        "loaded, 327 MiB",
    ):
        assert expected in words


def test_weights_that_are_others_say_so_and_a_label_what_it_stands_for(
    services: FakeServices, open_screen: Open
) -> None:
    family = replace(smollm2(q4_K_M={"types": {"Q5_0": 0.66, "Q8_0": 0.339, "F32": 0.001}}), kind="pruned")
    services.catalog.view = CatalogView((family, qwen()), services.pool.hosts)
    page = calm(open_screen("models"))
    assert text_of(page).count("it is no quantization of the plain model") == 1
    assert "Pruned: parts of it were taken out." in text_of(page)
    assert 'title="Q5_0 66 %, Q8_0 34 %"' in html_of(page)


def test_a_name_with_two_contents_and_a_model_computed_elsewhere_say_so(
    services: FakeServices, open_screen: Open
) -> None:
    scenes.models_conflict(services)
    page = calm(open_screen("models"))
    words = text_of(page)
    assert "conflict on built-in, loaded" in words and words.count("conflict") == 2 and "not local" in words
    assert page.button(key="load-gpt-oss:120b-cloud").disabled
    q8 = Q4.replace("q4_K_M", "q8_0")
    calm(page.button(key=f"delete-{q8} other").click().run())
    assert services.model_jobs.calls == [("removal", q8, "bench")]


@pytest.mark.parametrize("screen", ["chat", "compare", "home", "service", "dashboard"])
def test_a_name_with_two_contents_breaks_no_other_page(screen: str, services: FakeServices, open_screen: Open) -> None:
    scenes.models_conflict(services)
    page = calm(open_screen(screen))
    if screen == "chat":
        page.session_state["variant"] = True
        assert sum("conflict on bench" in label for label in labels_of(calm(page.run()))) == 1


def test_the_starter_family_says_where_its_reference_comes_from(open_screen: Open) -> None:
    assert "unpacked from a published 4-bit file" in text_of(calm(open_screen("models")))


def test_load_and_unload(services: FakeServices, open_screen: Open) -> None:
    page = open_screen("models")
    page.button(key=f"load-{Q4}").click().run()
    calm(page).button(key=f"unload-{Q4}").click().run()
    assert services.catalog.calls == [("load", Q4), ("unload", Q4)]
    assert "Load" in labels_of(calm(page))


def test_a_load_that_fails_is_told_at_the_variant_and_can_be_tried_again(
    services: FakeServices, open_screen: Open
) -> None:
    services.catalog.failure = ModelLoadFailed(Q4, "not enough memory")
    page = open_screen("models")
    page.button(key=f"load-{Q4}").click().run()
    assert "could not be loaded" in text_of(calm(page))
    services.catalog.failure = None
    page.button(key=f"retry-{Q4}").click().run()
    assert "could not be loaded" not in text_of(calm(page))
    assert services.catalog.calls == [("load", Q4), ("load", Q4)]


def test_a_variant_that_is_being_made_shows_how_far_and_cannot_be_loaded(
    services: FakeServices, open_screen: Open
) -> None:
    making = {"state": "making", "progress": 0.4, "size": 0, "bpw": None}
    services.catalog.view = CatalogView((smollm2(q4_K_M=making),), services.pool.hosts)
    page = calm(open_screen("models"))
    assert "being made, 40 %" in text_of(page)
    assert not any(button.key == f"load-{Q4}" for button in page.button)


def test_offline_says_how_to_start_the_host(services: FakeServices, open_screen: Open) -> None:
    services.pool.hosts = (HostStatus(OLLAMA, HostState.OFFLINE),)
    services.catalog.view = CatalogView((), services.pool.hosts)
    assert "ollama serve" in text_of(calm(open_screen("models")))


def test_a_host_that_fails_in_the_middle_is_not_taken_for_an_empty_one(
    services: FakeServices, open_screen: Open
) -> None:
    services.pool.hosts = (HostStatus(OLLAMA, HostState.HEALTHY),)
    services.catalog.view = CatalogView((), services.pool.hosts, ("the model host ollama does not answer",))
    words = text_of(calm(open_screen("models")))
    assert "The model host ollama does not answer." in words
    assert "No model yet" not in words


def test_what_could_not_be_read_is_named(services: FakeServices, open_screen: Open) -> None:
    services.catalog.view = CatalogView((smollm2(),), services.pool.hosts, ("broken:latest: the file ends too early",))
    assert "broken:latest: the file ends too early" in text_of(calm(open_screen("models")))


def test_a_running_job_shows_its_progress_and_can_be_cancelled(services: FakeServices, open_screen: Open) -> None:
    gate, _ = services.gate()

    async def work(handle: JobHandle) -> None:
        handle.progress(3, 8, "quantising Q5_K_M")
        await gate.wait()

    async def start() -> None:
        services.jobs.start("starter", "starter", "Making the SmolLM2 family", work)
        await asyncio.sleep(0)

    services.run(start())
    page = calm(open_screen("models"))
    assert "quantising Q5_K_M" in text_of(page)
    assert "37 %" in html_of(page)
    page.button(key="job-act-1").click().run()
    assert str(services.jobs.get("1").state) == "cancelled"
    assert "quantising" not in text_of(calm(page))


def test_a_failed_job_says_why_and_can_be_dismissed(services: FakeServices, open_screen: Open) -> None:
    async def work(_: JobHandle) -> None:
        raise ModelLoadFailed("m", "the disk is full")

    async def start() -> None:
        services.jobs.start("starter", "starter", "Making the SmolLM2 family", work)
        while services.jobs.get("1").active:
            await asyncio.sleep(0)

    services.run(start())
    page = calm(open_screen("models"))
    assert "the disk is full" in text_of(page)
    page.button(key="job-drop-1").click().run()
    assert "the disk is full" not in text_of(calm(page))
