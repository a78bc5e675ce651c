"""The load lab in its states, for the tests of the pages and for pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from app.comparison.load_lab.runs import STOPPED
from app.models.catalog import CatalogView
from tests.ui.fake_load_lab import MODEL, plan
from tests.ui.fake_services import FakeServices

LAB = "/service?view=Load+lab"
MIX = {MODEL: 3.0, "smollm2:135m-instruct-q8_0": 1.0}


def load_lab(services: FakeServices) -> str:
    services.load_lab.put("20261127-a", at=1_764_200_000.0)
    services.load_lab.put(
        "20261126-b", plan(models=MIX), slow=2.0, state=STOPPED, why="somebody came", at=1_764_100_000.0
    )
    return LAB


def load_lab_empty(services: FakeServices) -> str:
    return LAB


def load_lab_no_model(services: FakeServices) -> str:
    services.catalog.view = replace(services.catalog.view, families=())
    assert isinstance(services.catalog.view, CatalogView)
    return LAB


def load_lab_running(services: FakeServices) -> str:
    services.begun(lambda: (services.load_lab.go("20261127-c"), services.load_lab.job("20261127-c"))[1])  # type: ignore[arg-type,return-value]
    return f"{LAB}&run=20261127-c"


def load_lab_run(services: FakeServices) -> str:
    load_lab(services)
    return f"{LAB}&run=20261127-a"


def load_lab_overloaded(services: FakeServices) -> str:
    services.load_lab.put("20261127-d", plan(models=MIX), slow=6.0, whole=False)
    return f"{LAB}&run=20261127-d"


def load_lab_beside(services: FakeServices) -> str:
    load_lab(services)
    return f"{LAB}&run=20261127-a&beside=20261126-b"


LOAD_SCENES: dict[str, Callable[[FakeServices], str]] = {
    scene.__name__: scene
    for scene in (
        load_lab, load_lab_empty, load_lab_no_model, load_lab_running, load_lab_run, load_lab_overloaded,
        load_lab_beside,
    )
}  # fmt: skip
