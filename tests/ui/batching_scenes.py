"""States of the batching lab to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.ui import fake_batching
from tests.ui.fake_services import FakeServices

VIEW = "/service?view=Batching+lab"


def batching(services: FakeServices) -> str:
    services.batching.put(fake_batching.swept(), fake_batching.compared())
    return VIEW


def batching_empty(services: FakeServices) -> str:
    return VIEW


def batching_running(services: FakeServices) -> str:
    study = fake_batching.running()
    services.batching.put(study)
    services.loop.call_soon_threadsafe(services.batching.run, study.id)
    return f"{VIEW}&study={study.id}"


def batching_paused(services: FakeServices) -> str:
    address = batching_running(services)
    services.batching.pause(fake_batching.running().id)
    return address


def batching_failed(services: FakeServices) -> str:
    study = replace(fake_batching.running(), state="failed", notes=("The host built-in stopped answering.",))
    services.batching.put(study)
    return f"{VIEW}&study={study.id}"


def batching_slots(services: FakeServices) -> str:
    study = fake_batching.swept()
    services.batching.put(study)
    return f"{VIEW}&study={study.id}"


def batching_options(services: FakeServices) -> str:
    study = fake_batching.compared()
    services.batching.put(study)
    return f"{VIEW}&study={study.id}"


BATCHING_SCENES: dict[str, Callable[[FakeServices], str]] = {
    scene.__name__: scene
    for scene in (
        batching, batching_empty, batching_running, batching_paused, batching_failed, batching_slots, batching_options,
    )
}  # fmt: skip
