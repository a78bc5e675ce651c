"""Dashboard > Alerts over scripted figures."""

from __future__ import annotations

from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from app.core.exported_spans import Delivery
from tests.ui import alert_scenes as scenes
from tests.ui.fake_services import FakeServices
from tests.ui.pages import calm, html_of, text_of

Open = Callable[..., AppTest]


def test_with_nothing_open_the_view_says_so_and_shows_what_each_rule_sees(
    services: FakeServices, open_screen: Open
) -> None:
    scenes.calm(services)
    words = text_of(calm(open_screen("dashboard", view="Alerts")))
    assert "Nothing needs you. 10 rules look at this machine" in words
    assert "212 GiB" in words and "74 °C, GPU 1" in words
    assert "above 10 s for 1 min; ends at 6 s for 5 min" in words and "LOUPE_ALERT_WEBHOOK" in words


def test_before_the_first_look_no_figure_is_made_up(services: FakeServices, open_screen: Open) -> None:
    page = calm(open_screen("dashboard", view="Alerts"))
    assert "the first look is some seconds away" in text_of(page)
    assert html_of(page).count("no figure yet") == 10


def test_an_open_alert_says_what_was_seen_since_when_and_what_to_do(services: FakeServices, open_screen: Open) -> None:
    scenes.trouble(services)
    page = calm(open_screen("dashboard", view="Alerts"))
    words, html = text_of(page), html_of(page)
    assert "2 open alerts, 1 of them critical, by 11 rules." in words
    assert "A model host does not answer: bench" in words and "See Service for the reason it gives." in words
    assert "came back, 2 times so far" in words and "Now 12.4 s, at worst 18.9 s." in words
    assert words.index("A model host does not answer: bench") < words.index("Answers begin late")  # critical first
    assert "beyond for 30 s of 1 min" in words and "<b>changed</b>" in html and "<b>yours</b>" in html
    assert page.expander[0].label == "What was (1)" and "97 % of the memory is taken" in words


def test_a_rule_is_changed_in_the_units_that_it_is_told_in(services: FakeServices, open_screen: Open) -> None:
    scenes.calm(services)
    page = calm(open_screen("dashboard", view="Alerts"))
    page.button(key="alert-change").click().run()
    page.selectbox(key="alert-rule").select("disk").run()
    assert page.number_input(key="alert-limit-disk").value == 5.0
    page.number_input(key="alert-limit-disk").set_value(20.0)
    page.number_input(key="alert-clear-disk").set_value(10.0)
    page.button(key="alert-save").click().run()
    assert "Clear must be at or above the limit (20 GiB)" in text_of(page)
    page.number_input(key="alert-clear-disk").set_value(25.0)
    page.button(key="alert-save").click().run()
    rule = services.alerts.book.find("disk")
    assert rule is not None and (rule.limit, rule.clear) == (20 * scenes.GIB, 25 * scenes.GIB)
    assert "below 20 GiB" in text_of(calm(page))


def test_a_rule_of_ones_own_is_added_and_a_wrong_one_is_told_why(services: FakeServices, open_screen: Open) -> None:
    scenes.calm(services)
    page = calm(open_screen("dashboard", view="Alerts"))
    page.button(key="alert-add").click().run()
    page.text_input(key="alert-own-name").set_value("Too busy")
    page.selectbox(key="alert-own-series").select("cpu")
    page.number_input(key="alert-own-limit").set_value(0.9)
    page.button[-1].click().run()
    assert "A rule's name is a word of a-z" in text_of(page)
    page.text_input(key="alert-own-name").set_value("busy")
    page.button[-1].click().run()
    rule = services.alerts.book.find("busy")
    assert rule is not None and rule.own and rule.limit == 0.9


def test_the_webhook_is_tried_and_what_it_says_is_told(services: FakeServices, open_screen: Open) -> None:
    receiver = scenes.with_receiver(services, Delivery(taken=False, why="the webhook answered 404"))
    page = calm(open_screen("dashboard", view="Alerts"))
    page.button(key="alert-test").click().run()
    assert "The webhook answered 404" in text_of(calm(page)) and "hooks.example.org" in text_of(page)
    receiver.delivery = Delivery(taken=True)
    page.button(key="alert-test").click().run()
    assert "did not take a test message" not in text_of(calm(page))
    assert [message.content["type"] for message in receiver.taken] == ["alert.test"] * 2
