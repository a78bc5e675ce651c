"""The votes view over scripted models: what is shown before and after a vote, and what the votes prove."""

from __future__ import annotations

from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from app.models.catalog import CatalogView
from tests.ui import votes_scenes as scenes
from tests.ui.fake_services import FakeServices
from tests.ui.pages import calm, html_of, text_of
from tests.ui.side_scenes import NAMES, TEXTS, says

Open = Callable[..., AppTest]


def opened(open_screen: Open) -> AppTest:
    return calm(open_screen("compare", view="Votes"))


def shown(page: AppTest) -> str:
    """What is on the page without its style sheet and its setup."""
    return text_of(page)


def test_a_vote_is_cast_without_names_and_then_they_are_told(services: FakeServices, open_screen: Open) -> None:
    services.model.script = says(TEXTS)
    page = opened(open_screen)
    assert page.multiselect(key="votes-models").value == [NAMES["F16"], NAMES["Q4_K_M"]]
    page.button(key="votes-begin").click().run()
    before = shown(calm(page))
    assert TEXTS["F16"] in before and TEXTS["Q4_K_M"] in before
    assert "Q4_K_M" not in before and "F16" not in before and "smollm2" not in html_of(page)
    page.button(key="vote-left").click().run()
    after = shown(calm(page))
    assert "A was" in after and "You preferred" in after and "not separable yet" in after
    [vote, *_] = services.run(services.ballots.votes("local"))
    assert vote.choice == "a" and vote.family == scenes.FAMILY and vote.task == "prose"


def test_ones_own_questions_are_voted_on(services: FakeServices, open_screen: Open) -> None:
    services.model.script = says(TEXTS)
    page = opened(open_screen)
    page.session_state["votes-task"] = "your own questions"
    page.session_state["loupe.votes"].task = ""
    page.run()
    page.text_area(key="votes-own").set_value("Why?\n\nHow?").run()
    page.button(key="votes-begin").click().run()
    for _ in range(2):
        page.button(key="vote-tie").click().run()
    assert "All pairs have been voted on." in shown(calm(page))
    votes = services.run(services.ballots.votes("local"))
    assert {vote.question for vote in votes} == {"Why?", "How?"} and {vote.choice for vote in votes} == {"tie"}


def test_a_reload_shows_the_same_ballot_and_ending_keeps_the_votes(services: FakeServices, open_screen: Open) -> None:
    scenes.votes(services)
    first = [element.value for element in opened(open_screen).markdown]
    page = opened(open_screen)
    assert [element.value for element in page.markdown] == first
    page.button(key="votes-end").click().run()
    assert page.button(key="votes-begin") and "F16 is preferred to Q2_K" in shown(calm(page))


def test_verdicts_and_ranks_carry_what_they_rest_on(services: FakeServices, open_screen: Open) -> None:
    scenes.votes_results(services)
    page = opened(open_screen)
    told = shown(page)
    for words in ("F16 is preferred to Q2_K", "not separable yet", "in a row would decide", "Evidence of 120 decides"):
        assert words in told
    assert html_of(page).count('class="lp-track"') == 4
    assert {button.proto.label for button in page.get("download_button")} == {"All votes as CSV", "as JSON"}


def test_votes_of_a_task_are_deleted_after_a_second_click(services: FakeServices, open_screen: Open) -> None:
    scenes.votes_results(services)
    page = opened(open_screen)
    page.session_state[f"votes-sure-{scenes.FAMILY}-code"] = True
    page.run()
    page.button(key=f"votes-drop-{scenes.FAMILY}-code").click().run()
    assert {vote.task for vote in services.run(services.ballots.votes("local"))} == {"general"}


def test_where_all_answers_have_the_same_words_it_says_so(services: FakeServices, open_screen: Open) -> None:
    scenes.votes_same(services)
    assert "there is nothing to choose" in shown(opened(open_screen))


def test_an_error_is_told_and_tried_again(services: FakeServices, open_screen: Open) -> None:
    scenes.votes_error(services)
    page = opened(open_screen)
    assert "does not answer" in shown(page)
    services.model.script = says(TEXTS)
    page.button(key="votes-retry").click().run()
    assert page.button(key="vote-tie")


def test_no_model_says_so(services: FakeServices, open_screen: Open) -> None:
    services.catalog.view = CatalogView((), services.pool.hosts)
    assert "No model yet" in shown(opened(open_screen))
