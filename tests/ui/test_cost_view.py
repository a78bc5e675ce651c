"""The cost view over real books: what it says of what was used, what it leaves out, and what a change of an assumption
does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.services.costing.values import HERE
from app.ui import cost_words as words
from tests.ui import cost_scenes
from tests.ui.fake_services import FakeServices
from tests.ui.pages import calm, html_of, text_of

Open = Callable[..., AppTest]


def field(page: AppTest, name: str) -> Any:
    """The input of that assumption, whatever held when it was drawn."""
    [found] = [one for one in (*page.number_input, *page.text_input, *page.text_area) if _named(one.key, name)]
    return found


def _named(key: str | None, name: str) -> bool:
    return bool(key) and str(key).rpartition("-")[0] == f"cost-{name}"


def press(page: AppTest, key: str) -> AppTest:
    [button] = [one for one in page.button if one.key == key]
    return calm(button.click().run())


def test_a_week_of_answers_is_told_by_variant_with_what_it_was_worked_out_from(
    services: FakeServices, open_screen: Open
) -> None:
    cost_scenes.cost(services)
    told = text_of(calm(open_screen("dashboard", view="Cost")))
    assert "qwen3:4b-instruct-2507-q8_0" in told and "measured" in told and "EUR" in told
    assert "54 answers more" not in told and "216 answers more" in told
    assert "List prices of 2026-11-27" in told and "tokens a day" in told
    assert "1\u202f800 EUR" in told and "0.31 EUR a kWh" in told and "4 years" in told


@pytest.mark.parametrize(
    ("by", "name"),
    [
        ("User", "key editor"),
        ("User", "the owner"),
        ("Alias", "coder"),
        ("Alias", "own name"),
        ("Machine", "this machine"),
    ],
)
def test_it_is_told_by_whatever_is_asked_for(by: str, name: str, services: FakeServices, open_screen: Open) -> None:
    cost_scenes.cost(services)
    assert name in text_of(calm(open_screen("dashboard", view="Cost", by=by)))


def test_what_nobody_knows_is_said_and_is_no_zero(services: FakeServices, open_screen: Open) -> None:
    cost_scenes.cost_unknown(services)
    told = text_of(calm(open_screen("dashboard", view="Cost")))
    assert "State what it draws below" in told and "the energy is unknown" in told
    assert " 0.00 USD" not in told and "neither power nor the machine" in told


def test_a_stated_power_is_told_as_stated_and_changes_the_figures(services: FakeServices, open_screen: Open) -> None:
    cost_scenes.cost_unknown(services)
    page = calm(open_screen("dashboard", view="Cost"))
    field(page, f"watts-{HERE}").set_value(65.0)
    field(page, "machine").set_value(1800.0)
    told = text_of(press(page, "cost-save"))
    assert "from a stated power" in told and "the energy is unknown" not in told
    assert services.cost.assumed.stated == ("machine", "watts")
    press(page, "cost-back")
    assert services.cost.assumed.stated == ()
    assert field(page, "machine").value is None


def test_a_rate_of_exchange_that_nobody_stated_is_said(services: FakeServices, open_screen: Open) -> None:
    cost_scenes.cost_unknown(services)
    services.run(services.cost.change({"currency": "EUR"}))
    told = text_of(calm(open_screen("dashboard", view="Cost")))
    assert "a US dollar at 1.00 EUR, which nobody has stated" in told
    services.run(services.cost.change({"dollar": 0.9}))
    assert "which nobody has stated" not in text_of(calm(open_screen("dashboard", view="Cost")))


def test_prices_of_the_cloud_are_edited_as_text_and_a_wrong_line_is_named(
    services: FakeServices, open_screen: Open
) -> None:
    cost_scenes.cost(services)
    page = calm(open_screen("dashboard", view="Cost"))
    field(page, "prices").set_value("Ours: 0.5 much")
    assert "is no price" in html_of(press(page, "cost-prices-save"))
    field(page, "prices").set_value("Ours: 0,5 1.5")
    field(page, "prices-on").set_value("2026-12-24")
    told = text_of(press(page, "cost-prices-save"))
    assert "Ours" in told and "List prices of 2026-12-24" in told and "Groq" not in told


def test_before_the_first_answer_the_view_says_so(services: FakeServices, open_screen: Open) -> None:
    told = text_of(calm(open_screen("dashboard", view="Cost")))
    assert words.EMPTY in told and told.count("no token was made yet") == 1 and " 0 USD" not in told


def test_the_headline_is_what_this_machine_reaches(services: FakeServices, open_screen: Open) -> None:
    cost_scenes.cost(services)
    told = text_of(calm(open_screen("dashboard", view="Cost")))
    assert "against GPT-6.1 Sol … Gemini 2.5 Flash-Lite; never against 2 of 10 prices" in told


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, "–"), (0.0, "0 USD"), (0.00001, "< 0.0001 USD"), (0.01234, "0.0123 USD"), (4.2, "4.20 USD"),
     (1800.0, "1\u202f800 USD"), (12_345.6, "12\u202f346 USD")],
)  # fmt: skip
def test_money_has_its_currency_and_no_more_digits_than_mean_something(value: float | None, told: str) -> None:
    assert words.money(value, "USD") == told


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, "–"), (0.0, "0.00 USD"), (0.31, "0.31 USD"), (0.02, "0.02 USD"), (0.0755, "0.0755 USD"), (4.0, "4.00 USD"),
     (1800.0, "1\u202f800 USD")],
)  # fmt: skip
def test_a_price_that_somebody_said_gets_no_further_digits(value: float | None, told: str) -> None:
    assert words.price(value, "USD") == told


@pytest.mark.parametrize(
    ("joules", "told"), [(None, "–"), (12.34, "12.3 J"), (3600.0, "1.00 Wh"), (9e6, "2.50 kWh")]
)  # fmt: skip
def test_energy_has_a_unit_that_suits_it(joules: float | None, told: str) -> None:
    assert words.energy(joules) == told
