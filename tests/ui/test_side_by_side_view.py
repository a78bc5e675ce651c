"""The side-by-side view over scripted models: asking, what stands there while and after, keeping, deleting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.comparison.rounds import Round
from app.ui.components import compare_side_round
from tests.ui import side_scenes as scenes
from tests.ui.fake_services import FakeServices
from tests.ui.pages import calm, html_of, labels_of, text_of

Open = Callable[..., AppTest]
SIDE = "Side by side"


def round_of(page: AppTest) -> str:
    value = page.query_params["round"]
    return value if isinstance(value, str) else value[0]


def opened(open_screen: Open, address: str) -> AppTest:
    return calm(open_screen("compare", view=SIDE, round=address.rpartition("=")[2]))


def test_it_begins_with_the_best_the_usual_and_the_least_of_the_largest_family(open_screen: Open) -> None:
    page = calm(open_screen("compare", view=SIDE))
    assert page.multiselect(key="side-models").value == [scenes.NAMES[each] for each in ("F16", "Q4_K_M", "Q2_K")]
    assert page.chat_input(key="side-ask").placeholder == "Ask 3 variants the same"


def test_a_question_goes_to_all_of_them_and_the_answers_stand_beside_each_other(
    services: FakeServices, open_screen: Open
) -> None:
    services.model.script = scenes.says(scenes.TEXTS)
    page = calm(open_screen("compare", view=SIDE))
    page.chat_input(key="side-ask").set_value(scenes.QUESTION).run()
    assert {asked["model"] for asked in services.model.asked} == {
        scenes.NAMES[each] for each in ("F16", "Q4_K_M", "Q2_K")
    }
    assert all(asked["options"] == {"seed": 1, "temperature": 0, "num_predict": 256} for asked in services.model.asked)
    assert len({caller.group for caller in services.model.callers}) == 1
    told = text_of(calm(page))
    assert scenes.QUESTION in told and all(scenes.TEXTS[each] in told for each in ("F16", "Q4_K_M", "Q2_K"))
    assert "Differs from F16 from word 9 on" in told
    assert (opened(open_screen, "=" + round_of(page))).get("html"), "its address opens it"


def test_parameters_are_of_all_panes_or_of_one(services: FakeServices, open_screen: Open) -> None:
    page = calm(open_screen("compare", view=SIDE))
    page.session_state["side-parameters"] = True
    page.run()
    page.number_input(key="side-option--temperature").set_value(0.7).run()
    page.number_input(key="side-option--num_predict").set_value(64).run()
    page.number_input(key=f"side-option-{scenes.NAMES['Q2_K']}-temperature").set_value(1.5).run()
    page.chat_input(key="side-ask").set_value("hello").run()
    told = {scenes.label_of(str(asked["model"])): asked["options"] for asked in services.model.asked}
    assert told["F16"] == {"seed": 1, "temperature": 0.7, "num_predict": 64}
    assert told["Q2_K"] == {"seed": 1, "temperature": 1.5, "num_predict": 64}


def test_a_prompt_of_the_library_and_another_reference(services: FakeServices, open_screen: Open) -> None:
    page = calm(open_screen("compare", view=SIDE))
    page.session_state["side-prompt"] = True
    page.session_state["side-with"] = True
    page.run()
    page.text_area(key="side-system").set_value("Be brief.").run()
    page.radio(key="side-reference").set_value(scenes.NAMES["Q2_K"]).run()
    page.chat_input(key="side-ask").set_value("hello").run()
    assert all(asked["messages"][0] == {"role": "system", "content": "Be brief."} for asked in services.model.asked)  # type: ignore[index,call-overload]
    kept = services.run(services.side_by_side.get(round_of(page), "local")).round
    assert scenes.label_of(kept.panes[kept.reference].model) == "Q2_K"


def test_a_shipped_question_goes_into_the_input(services: FakeServices, open_screen: Open) -> None:
    page = calm(open_screen("compare", view=SIDE))
    page.session_state["side-questions"] = True
    page.run()
    page.button(key="side-shipped-prose-0").click().run()
    assert page.chat_input(key="side-ask").proto.value == services.questions()["prose"][0]
    assert not services.model.asked and not page.exception


def test_what_all_panes_were_given_stands_above_them(services: FakeServices, open_screen: Open) -> None:
    told = text_of(opened(open_screen, scenes.side_teacher(services)))
    assert "System prompt: Be brief. · After 2 messages of a past chat" in told


def test_panes_of_different_hosts_say_so(services: FakeServices, open_screen: Open) -> None:
    address = scenes.side(services)
    stored = services.run(services.side_by_side.get(address.rpartition("=")[2], "local")).round
    [answer] = stored.panes[1].answers
    moved = replace(stored.panes[1], answers=(replace(answer, answer=replace(answer.answer, host="bench")),))
    scenes.stored(services, stored.with_pane(1, moved))
    assert "Answered by bench" in text_of(opened(open_screen, address))


@pytest.mark.parametrize(("anew", "questions"), [(False, ["two?"]), (True, ["one?", "two?"])])
def test_a_past_conversation_is_asked_again(
    anew: bool, questions: list[str], services: FakeServices, open_screen: Open
) -> None:
    chat = services.ask("one?")
    services.ask("two?", conversation=chat)
    services.model.asked.clear()
    page = calm(open_screen("compare", view=SIDE))
    page.session_state["side-chat"] = True
    page.run()
    page.button(key=f"side-take-{anew}").click().run()
    page.button(key="side-ask-chat").click().run()
    kept = services.run(services.side_by_side.get(round_of(calm(page)), "local")).round
    assert list(kept.questions) == questions and len(kept.context) == (0 if anew else 2)
    assert kept.complete


def test_one_variant_says_how_to_get_a_second(services: FakeServices, open_screen: Open) -> None:
    scenes.side_alone(services)
    page = calm(open_screen("compare", view=SIDE))
    assert "gives something to compare it with" in text_of(page)
    assert page.chat_input(key="side-ask").disabled


def test_no_model_says_so(services: FakeServices, open_screen: Open) -> None:
    from app.models.catalog import CatalogView

    services.catalog.view = CatalogView((), services.pool.hosts)
    assert "No model yet" in text_of(calm(open_screen("compare", view=SIDE)))


def test_each_pane_tells_what_it_cost(services: FakeServices, open_screen: Open) -> None:
    told = text_of(opened(open_screen, scenes.side(services)))
    for figure in ("0.11 s", "370.8 tok/s", "41.2 tok/s", "290 ms", "312 MiB"):
        assert figure in told
    assert "The same words as F16." in told


def test_what_is_not_known_says_why(services: FakeServices, open_screen: Open) -> None:
    page = opened(open_screen, scenes.side_trouble(services))
    told = text_of(page)
    for sentence in (
        "From the cache, 3 min ago.", "Not comparable for speed", "The answer broke off", "Stopped.",
    ):  # fmt: skip
        assert sentence in told
    assert "no energy counter" in html_of(page) and "came out of the cache" in html_of(page)
    assert page.button(key="side-go-on")


def test_the_differences_are_marked(services: FakeServices, open_screen: Open) -> None:
    page = opened(open_screen, scenes.side(services))
    page.session_state["side-mode"] = "Differences"
    page.run()
    html = html_of(calm(page))
    assert '<del> <b class="lp-first">known</b> for' in html and "<ins> famous for its museums" in html


def test_what_a_model_wrote_loads_nothing_and_poses_as_nothing(services: FakeServices, open_screen: Open) -> None:
    page = opened(open_screen, scenes.side_hostile(services))
    for element in page.markdown:
        assert "![" not in element.value and ":red[" not in element.value
    page.session_state["side-mode"] = "Differences"
    page.run()
    assert "<img" not in html_of(calm(page))


def test_a_failed_pane_is_asked_again_alone(services: FakeServices, open_screen: Open) -> None:
    address = scenes.side_trouble(services)
    services.model.script = scenes.says(scenes.TEXTS)
    services.model.asked.clear()
    page = opened(open_screen, address)
    page.button(key="side-go-on").click().run()
    assert [scenes.label_of(str(asked["model"])) for asked in services.model.asked] == ["Q2_K", "Q6_K"]
    assert "Ask what is missing" not in labels_of(calm(page))


def test_the_fair_run_takes_the_place_of_speeds_that_compare_with_nothing(
    services: FakeServices, open_screen: Open
) -> None:
    page = opened(open_screen, scenes.side(services))
    page.button(key="side-fair").click().run()
    assert "Measured alone, warmed up, n 2." in text_of(calm(page))
    assert "18.1–18.4 tok/s" in text_of(opened(open_screen, scenes.side_fair(services)))


def test_a_next_question_goes_to_all_panes(services: FakeServices, open_screen: Open) -> None:
    page = opened(open_screen, scenes.side(services))
    page.chat_input(key="side-follow").set_value("And of Italy?").run()
    kept = services.run(services.side_by_side.get(round_of(calm(page)), "local")).round
    assert kept.questions == (scenes.QUESTION, "And of Italy?") and kept.complete


def test_keeping_one_opens_a_chat_with_that_variant(
    services: FakeServices, open_screen: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    went: list[Any] = []
    page = opened(open_screen, scenes.side(services))
    monkeypatch.setattr(compare_side_round.st, "switch_page", lambda *to, **more: went.append((*to, more)))
    page.button(key="side-keep-0-2").click().run()
    [(screen, more)] = went
    assert screen == "screens/chat.py"
    chat = services.run(services.history.get(more["query_params"]["chat"], "local"))
    assert scenes.label_of(chat.model) == "Q4_K_M"
    assert [message.content for message in chat.messages] == [scenes.QUESTION, scenes.TEXTS["Q4_K_M"]]


def test_a_page_that_comes_in_the_middle_sees_what_is_there_and_stop_stops_it(
    services: FakeServices, open_screen: Open
) -> None:
    address = scenes.side_running(services)
    round_id = address.rpartition("=")[2]
    view = services.run(services.side_by_side.get(round_id, "local"))
    assert view.running and [phase.name for phase in view.phases][2:] == ["decode", "loading", "turn"]
    services.run(services.side_by_side.stop(round_id))
    told = text_of(opened(open_screen, address))
    assert scenes.TEXTS["F16"] in told and scenes.TEXTS["Q4_K_M"][:50] in told and "Stopped." in told


def test_earlier_rounds_are_listed_opened_and_deleted(services: FakeServices, open_screen: Open) -> None:
    first = scenes.asked(services, Round(("Why?",), scenes.panes("F16", "Q2_K")))
    page = calm(open_screen("compare", view=SIDE))
    assert "F16, Q2_K · just now" in text_of(page)
    page.button(key=f"side-open-{first.id}").click().run()
    assert round_of(calm(page)) == first.id
    page.button(key="side-new").click().run()
    page.button(key=f"side-delete-{first.id}").click().run()
    assert not services.run(services.side_by_side.rounds("local"))
    assert "Earlier comparisons" not in text_of(calm(page))


def test_an_address_that_names_no_round_says_so(services: FakeServices, open_screen: Open) -> None:
    assert "does not exist" in text_of(opened(open_screen, scenes.side_missing(services)))
