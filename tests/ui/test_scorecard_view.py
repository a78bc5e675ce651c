"""The scorecard view: choose, measure, decide, look closer, delete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from app.core.errors import BadRequest
from app.models.catalog import CatalogFamily, CatalogVariant, CatalogView
from app.ui import card_run_words as run_words
from tests.ui import card_scenes as scenes
from tests.ui import scorecards
from tests.ui.fake_services import FakeServices, qwen, smollm2
from tests.ui.pages import calm, html_of, labels_of, text_of

Open = Callable[..., AppTest]
CARD = "c0ffee01"


def report_of(page: AppTest) -> str:
    value = page.query_params.get("report", "")
    return value if isinstance(value, str) else value[0]


def choose_questions(page: AppTest, source: str) -> None:
    group = next(group for group in page.get("button_group") if group.label == "Questions")
    group.set_value(source)
    page.run()


def asked(services: FakeServices, what: str) -> list[object]:
    return [call[1] for call in services.comparisons.calls if call[0] == what]


def test_all_variants_of_a_family_are_measured_against_its_best_one(services: FakeServices, open_screen: Open) -> None:
    page = calm(open_screen("compare"))
    assert "Measure 8 variants" in labels_of(page)
    page.button(key="card-begin").click().run()
    (plan,) = asked(services, "begin")
    assert len(plan.models) == 8  # type: ignore[attr-defined]
    assert (plan.reference, plan.depth) == ("smollm2:135m-instruct-fp16", "quick")  # type: ignore[attr-defined]
    assert report_of(calm(page)) == "00000001"
    assert "text 11 of 24" in text_of(page)


def test_a_link_preselects_a_family(services: FakeServices, open_screen: Open) -> None:
    services.catalog.view = CatalogView((smollm2(), qwen()))
    page = calm(open_screen("compare", family="qwen3-4b"))
    assert page.selectbox(key="card-family").value == "qwen3-4b"
    assert "Measure 2 variants" in labels_of(page)


def test_where_no_model_has_two_variants_the_way_to_a_second_one_is_offered(
    services: FakeServices, open_screen: Open
) -> None:
    scenes.card_nothing(services)
    page = calm(open_screen("compare"))
    assert "Nothing to compare yet" in text_of(page)
    assert not [label for label in labels_of(page) if label.startswith("Measure")]


def test_own_prompts_are_measured_with_and_too_few_are_refused(services: FakeServices, open_screen: Open) -> None:
    page = open_screen("compare")
    choose_questions(page, run_words.OWN)
    page.text_area(key="card-prompts").set_value("one\n\ntwo").run()
    page.button(key="card-begin").click().run()
    assert "at least 8 are needed" in text_of(calm(page))
    assert not asked(services, "begin")
    page.text_area(key="card-prompts").set_value("\n".join(f"question {n}" for n in range(9))).run()
    page.button(key="card-begin").click().run()
    (plan,) = asked(services, "begin")
    assert len(plan.questions) == 9  # type: ignore[attr-defined]


def test_questions_of_past_chats_are_taken_only_where_that_was_chosen(
    services: FakeServices, open_screen: Open
) -> None:
    for number in range(8):
        services.ask(f"What about number {number}?")
    page = open_screen("compare")
    choose_questions(page, run_words.CHATS)
    page.button(key="card-begin").click().run()
    (plan,) = asked(services, "begin")
    assert sorted(plan.questions) == [f"What about number {number}?" for number in range(8)]  # type: ignore[attr-defined]


def test_what_cannot_begin_says_why_beside_the_button(services: FakeServices, open_screen: Open) -> None:
    services.comparisons.refusal = BadRequest("a comparison runs already", field="model")
    page = open_screen("compare")
    page.button(key="card-begin").click().run()
    assert "A comparison runs already" in text_of(calm(page))
    assert not report_of(page)


def test_a_run_is_found_again_by_its_address_paused_resumed_and_cancelled(
    services: FakeServices, open_screen: Open
) -> None:
    scenes.card_running(services)
    page = calm(open_screen("compare", report=CARD))
    words = text_of(page)
    assert "Q4_K_M: divergence, text 11 of 24" in words and "51.2" in words
    page.button(key="card-pause").click().run()
    page.button(key="card-resume").click().run()
    page.button(key="card-cancel").click().run()
    assert [call[0] for call in services.comparisons.calls] == ["pause", "resume", "cancel"]
    assert "It ended before there was enough" in text_of(calm(page)) or "Run " in text_of(page)


def test_the_recommendation_comes_first_and_the_sliders_move_it_without_measuring(
    services: FakeServices, open_screen: Open
) -> None:
    scenes.card(services)
    page = calm(open_screen("compare", report=CARD))
    assert text_of(page).index("Run Q6_K") < text_of(page).index("Would mislead") < text_of(page).index("Prefill")
    budget = page.select_slider(key=f"advice-budget-{CARD}")
    budget.set_value(64 * 2**20).run()
    assert "Run Q6_K: very close" not in text_of(calm(page))
    assert not services.comparisons.calls


def test_where_nothing_is_fast_enough_a_smaller_model_at_hand_is_named(
    services: FakeServices, open_screen: Open
) -> None:
    tiny = CatalogVariant("tiny:10m-q8_0", "Q8_0", "d", 10 * 2**20, 8.5, capabilities=("completion",))
    scenes.card(services)
    services.catalog.view = CatalogView((smollm2(), CatalogFamily("tiny", "tiny", "", "10M", 2048, (tiny,))))
    page = calm(open_screen("compare", report=CARD))
    page.select_slider(key=f"advice-speed-{CARD}").set_value(150).run()
    assert "run tiny:10m-q8_0" in text_of(calm(page))


def test_another_use_brings_its_least_speed(services: FakeServices, open_screen: Open) -> None:
    scenes.card(services)
    page = open_screen("compare", report=CARD)
    use = next(group for group in page.get("button_group") if group.label == "Use")
    use.set_value("code")
    page.run()
    assert page.select_slider(key=f"advice-speed-{CARD}").value == 20


def test_every_figure_of_the_table_says_what_it_is_on_a_narrow_page_too(
    services: FakeServices, open_screen: Open
) -> None:
    scenes.card(services)
    html = html_of(calm(open_screen("compare", report=CARD)))
    assert html.count('data-name="KLD, nats"') == 8
    assert "Cannot be told apart from Q5_K_M" in html


def test_what_a_variant_is_named_cannot_become_markup(services: FakeServices, open_screen: Open) -> None:
    card = scorecards.scorecard("fp16", "q8_0")
    evil = replace(card.variants[1], name='x"><img src=x>', quantization="<script>", notes=("<b>note</b>",))
    services.comparisons.put(replace(card, variants=(card.variants[0], evil), family="<i>family</i>"))
    html = html_of(calm(open_screen("compare", report=CARD)))
    assert "<script>" not in html and "<img" not in html and "<b>note" not in html and "<i>family" not in html


def test_an_old_server_has_speed_and_says_what_is_missing(services: FakeServices, open_screen: Open) -> None:
    scenes.card_old_server(services)
    words = text_of(calm(open_screen("compare", report=CARD)))
    assert "Divergence needs Ollama 0.12.11" in words and "61.0" in words
    assert "Where they differ" not in words


def test_the_strip_begins_with_the_worst_answer(services: FakeServices, open_screen: Open) -> None:
    services.comparisons.tokens = (
        *(replace(row, text_id="mild", kld=0.0) for row in scorecards.token_rows()),
        *scorecards.token_rows("wild"),
    )
    scenes.card(services)
    page = calm(open_screen("compare", report=CARD))
    assert page.selectbox(key=f"strip-text-{CARD}").value == "wild"


def test_two_cards_of_a_family_stand_beside_each_other(services: FakeServices, open_screen: Open) -> None:
    scenes.card_list(services)
    page = open_screen("compare", report=CARD)
    page.selectbox(key=f"beside-{CARD}").set_value("c0ffee03").run()
    assert "no change shown" in text_of(calm(page))


def test_a_card_that_is_gone_says_so(open_screen: Open) -> None:
    page = calm(open_screen("compare", report="c0ffee99"))
    assert "there is no comparison" in text_of(page).lower()
    page.button(key="all-cards").click().run()
    assert not report_of(calm(page))


def test_a_card_is_deleted_by_a_dialog_that_names_it(services: FakeServices, open_screen: Open) -> None:
    scenes.card(services)
    page = open_screen("compare", report=CARD)
    page.button(key="card-delete").click().run()
    assert "deleted for good" in text_of(calm(page))
    page.button(key="card-delete-go").click().run()
    assert asked(services, "delete") == [CARD]
    assert not report_of(calm(page))


@pytest.mark.parametrize(
    "scene",
    [scenes.card_deep, scenes.card_paused, scenes.card_failed, scenes.card_list],
    ids=lambda scene: scene.__name__,
)
def test_every_state_of_a_card_is_drawn(
    scene: Callable[[FakeServices], str], services: FakeServices, open_screen: Open
) -> None:
    address = scene(services)
    query = dict([address.partition("?")[2].split("=")]) if "?" in address else {}
    assert text_of(calm(open_screen("compare", **query))).strip()


def test_a_card_is_saved_by_links_to_its_reports(services: FakeServices, open_screen: Open) -> None:
    scenes.card(services)
    html = html_of(calm(open_screen("compare", report=CARD)))
    for kind in ("html", "json", "csv", "md"):
        assert f'href="/loupe/comparisons/{CARD}/report?format={kind}" download' in html
