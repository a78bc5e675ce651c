"""The load lab of the Service screen over fake services: asking, keeping off, watching, comparing, deleting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from streamlit.testing.v1 import AppTest

from app.comparison.load_lab.arrivals import Arrivals
from app.comparison.load_lab.plan import Limits, LoadPlan
from app.comparison.load_lab.runs import DONE, HostInUse
from app.core.errors import BadRequest
from app.ui import load_words
from tests.ui import load_scenes
from tests.ui.fake_load_lab import MODEL, plan
from tests.ui.fake_services import FakeServices
from tests.ui.pages import calm, html_of, labels_of, text_of

Open = Callable[..., AppTest]
FIRST = "smollm2:135m-instruct-fp16"


def lab(open_screen: Open, **query: str) -> AppTest:
    return calm(open_screen("service", view="Load lab", **query))


def asked(services: FakeServices) -> LoadPlan:
    [(_, found, _)] = [call for call in services.load_lab.calls if call[0] == "begin"]
    assert isinstance(found, LoadPlan)
    return found


def test_what_the_form_says_is_what_is_asked_for_and_the_page_goes_to_the_run(
    services: FakeServices, open_screen: Open
) -> None:
    page = lab(open_screen)
    assert load_words.NO_RUNS in text_of(page)
    page.multiselect(key="lab-models").set_value([FIRST, MODEL]).run()
    page.number_input(key=f"lab-share-{MODEL}").set_value(3.0)
    page.segmented_control(key="lab-arrivals").set_value(Arrivals.RAMP).run()
    page.number_input(key="lab-rate").set_value(0.5)
    page.number_input(key="lab-to").set_value(6.0)
    page.text_input(key="lab-prompt").set_value("64-512")
    page.number_input(key="lab-e2e").set_value(20.0).run()
    calm(page.button(key="lab-begin").click().run())
    told = asked(services).checked()
    assert (dict(told.models), told.arrivals, told.rate, told.to_rate) == ({FIRST: 1.0, MODEL: 3.0}, "ramp", 0.5, 6.0)
    assert (told.prompt, told.output, told.limits) == ("64-512", "64", Limits(1.0, 0.2, 20.0))
    assert page.query_params["run"] == "00000001"
    assert "96 of" in text_of(page) and "under way" in text_of(page)
    calm(page.button(key="lab-cancel").click().run())
    assert ("cancel", "00000001") in services.load_lab.calls


def test_who_would_feel_it_is_said_beside_a_way_to_go_on(services: FakeServices, open_screen: Open) -> None:
    services.load_lab.refusal = HostInUse("others use built-in: 2 requests in the last minute, the last one 4 s ago")
    page = lab(open_screen)
    calm(page.button(key="lab-begin").click().run())
    assert "Others use built-in: 2 requests in the last minute" in text_of(page)
    calm(page.button(key="lab-anyway").click().run())
    assert asked(services).anyway
    assert "run" in page.query_params


def test_what_cannot_be_asked_for_is_told_at_the_button(services: FakeServices, open_screen: Open) -> None:
    services.load_lab.refusal = BadRequest("'long' is no length in tokens; say 256", "prompt")
    page = calm(lab(open_screen).button(key="lab-begin").click().run())
    assert "'long' is no length in tokens" in text_of(page)
    assert "lab-anyway" not in [button.key for button in page.button]


def test_a_finished_run_tells_its_figures_with_intervals_and_what_was_lost(
    services: FakeServices, open_screen: Open
) -> None:
    load_scenes.load_lab_overloaded(services)
    run = services.load_lab.get("20261127-d")
    assert run.figures.ttft.at("p50") is not None and run.figures.ttft.at("p99") is None
    page = lab(open_screen, run=run.id)
    words = text_of(page)
    assert "6 requests had no answer 60 s after the last one" in words
    assert "6 given up" in words and "> " in words and "1 refused by the full queue" in words
    assert "q4_K_M 75 % + smollm2:135m-instruct-q8_0 25 %" in words
    assert "1 failed: the model host has gone" in words
    assert "python -m app load smollm2:135m-instruct-q4_K_M=3" in html_of(page)
    assert "--rate 4 --seed 11 --ttft 1 --tpot 0.2" in html_of(page)


def test_two_runs_stand_beside_each_other_with_what_was_not_the_same(services: FakeServices, open_screen: Open) -> None:
    load_scenes.load_lab(services)
    page = lab(open_screen, run="20261127-a")
    assert "Beside each other" not in text_of(page)
    calm(page.selectbox(key="lab-beside-20261127-a").set_value("20261126-b").run())
    assert page.query_params["beside"] == "20261126-b"
    words = text_of(page)
    assert "did not come to its end (stopped)" in words and "models: " in words
    assert "TTFT p95" in words and "apart" in words


def test_a_run_is_deleted_after_a_question_that_names_it(services: FakeServices, open_screen: Open) -> None:
    services.load_lab.put("20261127-a")
    page = lab(open_screen)
    assert "Open" in labels_of(page)
    calm(page.button(key="lab-drop-20261127-a").click().run())
    assert "with all their times, for good" in text_of(page)
    calm(page.button(key="confirm-go").click().run())
    assert services.load_lab.calls == [("delete", "20261127-a")]
    assert load_words.NO_RUNS in text_of(page)


def test_a_run_that_is_gone_and_a_page_without_models_say_so(services: FakeServices, open_screen: Open) -> None:
    assert "there is no load run nowhere" in text_of(lab(open_screen, run="nowhere")).lower()
    load_scenes.load_lab_no_model(services)
    assert "lab-begin" not in [button.key for button in lab(open_screen).button]


def test_a_run_of_ones_own_questions_says_in_its_command_that_a_file_goes_there(services: FakeServices) -> None:
    run = services.load_lab.put("a")
    assert "--prompts" not in load_words.command(run)
    assert load_words.command(replace(run, own=3)).endswith("--tpot 0.2 --prompts FILE")
    chats = replace(run, own=3, plan=replace(run.plan, chats=True))
    assert "--chats" in load_words.command(chats) and "--prompts" not in load_words.command(chats)


def test_the_words_of_a_run_without_limits_claim_no_goodput(services: FakeServices) -> None:
    run = services.load_lab.put("a", plan(limits=Limits()), state=DONE)
    assert load_words.tiles(run)[0].value == "–"
    assert "limits" not in load_words.run_headline(run)
