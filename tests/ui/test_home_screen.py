"""Home over scripted services: one line of truth, four figures, what needs somebody, three ways on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from app.core.errors import HostUnreachable
from app.core.hosts import HostState, HostStatus
from app.models.catalog import CatalogView
from app.services.live_series import Sample
from app.services.queueing.views import QueueSnapshot
from app.ui import home_words as words
from tests.ui import home_scenes
from tests.ui.fake_services import OLLAMA, FakeServices
from tests.ui.pages import calm, text_of
from tests.ui.scenes import run_row, ticket

Open = Callable[..., AppTest]


def told_by(open_screen: Open) -> str:
    return " ".join(text_of(calm(open_screen("home"))).split())


def test_a_quiet_machine_says_what_runs_and_that_nothing_is_needed(services: FakeServices, open_screen: Open) -> None:
    home_scenes.home(services)
    told = told_by(open_screen)
    assert "The built-in runtime answers, SmolLM2 135M Instruct Q4_K_M in memory. Nothing is asked just now." in told
    assert "Nothing needs you." in told


def test_a_busy_one_says_how_busy_and_what_needs_somebody(services: FakeServices, open_screen: Open) -> None:
    home_scenes.home_busy(services)
    told = told_by(open_screen)
    assert "2 answers are being made, 3 wait, the next begins in" in told and "One thing needs you." in told
    assert "bench does not answer The other hosts go on." in told and "Connection refused" not in told


def test_before_the_first_model_it_says_how_to_get_one(services: FakeServices, open_screen: Open) -> None:
    home_scenes.home_empty(services)
    told = told_by(open_screen)
    assert "no model in memory" in told and "There is no model yet" in told


def test_an_alert_and_a_paused_queue_need_somebody(services: FakeServices, open_screen: Open) -> None:
    home_scenes.home_low(services)
    told = told_by(open_screen)
    assert "The queue is paused" in told and "The disk is nearly full 1 GiB is left" in told
    assert "2 things need you." in told  # a host that is down is told as such, not as an alert too


def test_a_failed_job_needs_somebody(services: FakeServices, open_screen: Open) -> None:
    home_scenes.standing(services)
    services.model_jobs.failure = HostUnreachable("registry", "refused")
    services.until_ended(services.pull("qwen3:4b").id)
    assert "Getting qwen3:4b failed" in told_by(open_screen)


def test_the_figures_begin_with_the_newest_sample(services: FakeServices, open_screen: Open) -> None:
    home_scenes.home(services)
    services.live._sample = Sample(3, 1.7e9, {"queue_running": 2.0}, {"memory_total": 16.0}, unknown={"gpu": "none"})
    [live] = calm(open_screen("home")).get("bidi_component")
    begin = json.loads(live.proto.mixed.json if live.proto.HasField("mixed") else live.proto.json)["begin"]
    assert begin["now"] == {"queue_running": 2.0} and begin["unknown"] == {"gpu": "none"}


@pytest.mark.parametrize(
    ("state", "told"),
    [(HostState.OFFLINE, "No model host answers."), (HostState.WARMING, "The model host is starting."),
     (HostState.HEALTHY, "Ollama answers, no model in memory.")],
)  # fmt: skip
def test_what_runs_is_said_in_every_state_of_a_host(state: HostState, told: str) -> None:
    line = words.truth(CatalogView(), (HostStatus(OLLAMA, state),), QueueSnapshot(), ())
    assert line.startswith(told)


def test_one_of_anything_is_said_as_one() -> None:
    waiting = (replace(ticket(1), eta=None),)
    line = words.truth(CatalogView(), (), QueueSnapshot(waiting, (run_row(1, "a", "decode"),)), [words.Need("x", "y")])
    assert line.endswith("1 answer is being made, 1 waits. One thing needs you.")
    paused = words.truth(CatalogView(), (), QueueSnapshot(waiting, paused=True), ())
    assert "The queue is paused, 1 request waits." in paused


def test_the_ways_on_fit_what_is_there(services: FakeServices) -> None:
    home_scenes.home(services)
    ask, compare, more = words.ways(services.catalog.view)
    assert (ask.model, compare.family) == (home_scenes.Q4, "smollm2-135m")
    assert "in memory, answers at once" in ask.told and more.told.startswith("8 variants here")
    ask, compare, more = words.ways(CatalogView())
    assert (ask.model, compare.family, more.label) == ("", "", "Get a model")
