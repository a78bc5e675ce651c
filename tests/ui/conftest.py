"""Fixtures of the page tests: fake services behind the one door, and screens run without a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.ui import access
from tests.ui.fake_services import FakeServices, fake_services

SHELL = Path(__file__).parents[2] / "app" / "ui" / "shell.py"


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServices]:
    with fake_services(tmp_path) as running:
        monkeypatch.setattr(access, "services", lambda: running)
        yield running


@pytest.fixture
def open_screen(services: FakeServices) -> Callable[..., AppTest]:
    """Run a screen once; keyword arguments are the address's parameters."""

    def run(name: str, **query: str) -> AppTest:
        page = AppTest.from_file(str(SHELL), default_timeout=20)
        if name != "chat":  # which is where one arrives
            page.switch_page(f"screens/{name}.py")
        for key, value in query.items():
            page.query_params[key] = value
        return page.run()

    return run
