"""Rules over figures: what raises an alert, what ends it, what is one alert and not many, and what may be changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.core.alerts import Alert, Figures, Rule, Severity
from app.core.errors import BadRequest
from app.services.alerting import alerts as alerts_module
from app.services.alerting.alerts import Alerts
from app.services.alerting.baselines import Baselines
from app.services.alerting.messages import Messages
from app.services.alerting.prometheus import alert_name, as_rules, expression
from app.services.alerting.rule_book import RuleBook, RuleNotFound
from app.services.alerting.shipped import SHIPPED
from app.services.alerting.watching import GONE, GONE_SECONDS, Watch
from app.services.alerting.words import condition, seen, span, told
from app.services.metrics import Metrics
from tests.fakes import FakeClock

pytestmark = pytest.mark.anyio
HOT = Rule(
    "hot", "It is hot", "gpu.temperature", 87.0, 80.0, 60.0, 300.0, Severity.WARNING, "°C",
    "{subject} is at {value} (limit {limit}).", "Cool it.",
)  # fmt: skip
KNOWN = {"gpu.temperature", "cpu", "ttft_p95_5min", "disk_free"}


def played(watch: Watch, *minutes: tuple[float | None, float]) -> list[Alert]:
    """What happens while each figure holds for so many minutes, looked at every 5 s."""
    clock, happened = FakeClock(), []
    for value, length in minutes:
        for _ in range(round(length * 60 / 5)):
            event = watch.see(value, clock.monotonic(), clock.now())
            if event is not None:
                happened.append(event)
            clock.advance(5)
    return happened


def test_a_figure_beyond_its_limit_for_long_enough_raises_and_one_back_for_long_enough_ends():
    raised, ended = played(Watch(HOT, "GPU 0"), (70, 5), (90, 10), (70, 10))
    assert raised.open and raised.seen == "GPU 0 is at 90 °C (limit 87 °C)." and raised.advice == "Cool it."
    assert raised.since == FakeClock().epoch + 300 and raised.raised == raised.since + 60
    assert not ended.open and ended.ended == FakeClock().epoch + 900 + 300 and ended.worst == 90


@pytest.mark.parametrize(
    "minutes",
    [
        ((90, 0.9), (70, 1), (90, 0.9), (70, 30)),  # never for long enough
        ((87, 60),),  # at the limit, not beyond it
        ((None, 60),),
    ],
)
def test_what_does_not_hold_raises_nothing(minutes: Any):
    assert played(Watch(HOT, ""), *minutes) == []


def test_a_figure_that_trembles_between_its_two_limits_is_one_alert():
    happened = played(Watch(HOT, ""), (90, 2), *[(85, 6), (88, 1)] * 5)
    assert [alert.open for alert in happened] == [True]


def test_a_cause_that_flaps_faster_than_the_rest_is_one_alert():
    happened = played(Watch(HOT, ""), *[(90, 2), (60, 2)] * 20, (60, 20))
    assert [alert.open for alert in happened] == [True, False]


def test_a_cause_that_comes_back_soon_is_the_same_alert_and_has_to_be_quiet_for_longer():
    happened = played(Watch(HOT, ""), *[(90, 2), (60, 7)] * 20, (60, 60))
    assert len({alert.id for alert in happened}) == 1
    assert [(alert.open, alert.times) for alert in happened] == [(True, 1), (False, 1), (True, 2), (False, 2)]
    assert happened[2].since == happened[0].since


def test_a_cause_that_comes_back_much_later_is_another_alert():
    happened = played(Watch(HOT, ""), (90, 2), (60, 30), (90, 2))
    assert len({alert.id for alert in happened}) == 2 and happened[-1].times == 1


def test_a_figure_that_is_not_told_any_more_ends_its_alert_and_says_so():
    raised, ended = played(Watch(replace(HOT, rest=0), ""), (90, 2), (None, 5))
    assert raised.open and ended.why_ended == GONE
    assert ended.ended == FakeClock().epoch + 120 + GONE_SECONDS


def test_a_clock_that_is_set_neither_raises_nor_ends():
    watch, clock = Watch(HOT, ""), FakeClock()
    for hours in (0, 1, -2, 1):
        clock.epoch += hours * 3600
        assert watch.see(90, clock.monotonic(), clock.now()) is None
        clock.advance(5)


def test_too_little_can_be_bad_too():
    low = replace(HOT, above=False, limit=5.0, clear=8.0, unit="bytes")
    happened = played(Watch(low, ""), (4, 2), (6, 10), (9, 6))
    assert [alert.open for alert in happened] == [True, False] and happened[1].worst == 4


class Told:
    """In place of `Watched`."""

    def __init__(self) -> None:
        self.figures: Figures = {}
        self.baselines, self.learned = Baselines(), False

    def look(self) -> Figures:
        return self.figures


class Stand:
    def __init__(self, folder: Path) -> None:
        self.told, self.clock, self.metrics = Told(), FakeClock(), Metrics()
        self.alerts = Alerts(self.told, folder, self.clock, self.metrics, Messages("", "1"))  # type: ignore[arg-type]

    def hold(self, figures: Figures, minutes: float) -> None:
        self.told.figures = figures
        for _ in range(round(minutes * 12)):
            self.alerts.look()
            self.clock.advance(5)


def test_each_subject_has_an_alert_of_its_own_and_metrics_count_them(tmp_path: Path):
    stand = Stand(tmp_path)
    stand.hold({"host_down": {"a": 1.0, "b": 1.0, "c": 0.0}}, 1)
    assert {alert.subject for alert in stand.alerts.view().open} == {"a", "b"}
    shown = stand.metrics.render().decode()
    assert 'loupe_alerts{rule="host_down",severity="critical"} 2.0' in shown
    assert 'loupe_watched{series="host_down",subject="c"} 0.0' in shown
    stand.hold({"host_down": {"a": 0.0, "c": 0.0}}, 2)
    view = stand.alerts.view()
    assert view.open == () and [alert.why_ended for alert in view.alerts] == [GONE, ""]


async def test_a_rule_that_is_turned_off_ends_its_alerts(tmp_path: Path):
    stand = Stand(tmp_path)
    stand.hold({"host_down": {"a": 1.0}}, 1)
    await stand.alerts.change("host_down", {"on": False})
    (alert,) = stand.alerts.view().alerts
    assert alert.why_ended == alerts_module.OFF


async def test_open_alerts_and_what_was_learned_outlive_a_restart(tmp_path: Path):
    stand = Stand(tmp_path)
    stand.hold({"host_down": {"a": 1.0, "b": 1.0}}, 1)
    stand.hold({"host_down": {"a": 1.0, "b": 0.0}}, 2)
    before = stand.alerts.view().alerts
    await stand.alerts.start()
    await stand.alerts.stop()
    again = Stand(tmp_path)
    await again.alerts.start()
    again.clock.advance(600)
    again.hold({"host_down": {"a": 1.0, "b": 1.0}}, 1)
    await again.alerts.stop()
    after = {alert.subject: alert for alert in again.alerts.view().alerts}
    assert len(after) == 2 and {alert.id for alert in before} == {alert.id for alert in after.values()}
    assert after["a"].times == 1 and after["b"].times == 2  # one went on, the other came back


async def test_files_that_are_damaged_are_begun_anew(tmp_path: Path):
    for name in ("alerts.json", "alert-rules.json", "alert-baselines.json"):
        (tmp_path / name).write_text('{"alerts": [{"id": 1}, 3], "untold": [{}], "disk": {"limit": "x"}, "x y": 1}')
    stand = Stand(tmp_path)
    await stand.alerts.start()
    await stand.alerts.stop()
    assert stand.alerts.view().alerts == () and [rule.rule for rule in stand.alerts.view().rules] == list(SHIPPED)


def test_a_changed_rule_is_kept_and_can_be_had_back(tmp_path: Path):
    book = RuleBook(tmp_path)
    rule = book.put("first_token", {"limit": 5}, KNOWN)
    assert (rule.limit, rule.clear) == (5.0, 3.0) and book.changed("first_token")
    again = RuleBook(tmp_path)
    again.load()
    assert again.find("first_token") == rule
    assert again.remove("first_token") == next(rule for rule in SHIPPED if rule.name == "first_token")
    assert not again.changed("first_token")


def test_a_rule_of_ones_own_needs_a_series_and_a_limit_and_goes_when_removed(tmp_path: Path):
    book = RuleBook(tmp_path)
    rule = book.put("busy", {"series": "cpu", "limit": 0.9, "unit": "share"}, KNOWN)
    assert rule.own and seen(rule, "", 0.95) == "cpu is 95 % (limit 90 %)"
    assert book.put("busy", {"hold": 5}, KNOWN) == replace(rule, hold=5.0)
    assert book.remove("busy") is None
    with pytest.raises(RuleNotFound):
        book.remove("busy")


@pytest.mark.parametrize(
    ("name", "wish", "said"),
    [
        ("busy", {"series": "cpu"}, "needs at least"),
        ("busy", {"series": "cp", "limit": 1}, "did you mean cpu"),
        ("Busy one", {"series": "cpu", "limit": 1}, "a rule's name is a word"),
        ("disk", {"limit": "much"}, "limit: give a number"),
        ("disk", {"limit": float("nan")}, "limit: give a number"),
        ("disk", {"hold": -1}, "hold: give seconds"),
        ("disk", {"series": "cpu"}, "cannot be changed"),
        ("disk", {"colour": "red"}, "is nothing"),
        ("disk", {"severity": "bad"}, "give warning or critical"),
        ("disk", {"clear": 1}, "at or above the limit"),
        ("first_token", {"limit": 5, "clear": 6}, "at or below the limit"),
        ("disk", {"on": 1}, "give true or false"),
        ("busy", {"series": "cpu", "limit": 1, "title": "x" * 501}, "give a text"),
    ],
)
def test_a_wrong_rule_is_refused_with_what_to_do(tmp_path: Path, name: str, wish: dict[str, Any], said: str):
    book = RuleBook(tmp_path)
    with pytest.raises(BadRequest, match=said):
        book.put(name, wish, KNOWN)
    assert book.rules == SHIPPED and not list(tmp_path.iterdir())


def test_a_disk_that_cannot_be_written_leaves_the_rule_as_it_was(tmp_path: Path):
    book = RuleBook(tmp_path / "file" / "below")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        book.put("disk", {"limit": 1}, KNOWN)
    assert not book.changed("disk")


@pytest.mark.parametrize("rule", SHIPPED, ids=lambda rule: rule.name)
def test_each_shipped_rule_is_sound_and_says_what_to_do(rule: Rule):
    beyond = rule.limit * (1.1 if rule.above else 0.9)
    assert rule.beyond(beyond) and not rule.back(beyond) and rule.back(rule.clear) and not rule.beyond(rule.clear)
    sentence = seen(rule, "GPU 0", beyond)
    assert sentence.endswith(".") and "{" not in sentence and len(rule.advice) > 40
    assert rule.name in expression(rule) or rule.series in expression(rule)
    assert f"- alert: {alert_name(rule)}\n" in as_rules(SHIPPED)


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0.42, "s", "0.42 s"), (75, "s", "1 min 15 s"), (7500, "s", "2 h 05 min"), (0.935, "share", "94 %"),
        (0.021, "share", "2.1 %"), (5 * 2**30, "bytes", "5 GiB"), (61, "°C", "61 °C"), (12345678, "", "12345678"),
    ],
)  # fmt: skip
def test_figures_are_said_with_their_unit(value: float, unit: str, words: str):
    assert told(value, unit) == words


def test_a_condition_is_said_in_words():
    assert condition(HOT) == "above 87 °C for 1 min; ends at 80 °C for 5 min"
    assert span(60) == "1 min"
