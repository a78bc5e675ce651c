"""The ladder of clients, for those that the development environment has; `make clients` sends up all of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.client_ladder import ABILITIES, climb, server

pytestmark = [pytest.mark.model, pytest.mark.timeout(300), pytest.mark.xdist_group("client ladder")]


@pytest.fixture(scope="module")
def variables() -> Iterator[dict[str, str]]:
    with server() as told:
        assert all(told.values()), f"a model is missing: {told}"
        yield told


@pytest.mark.parametrize("client", ["ollama_python", "ollama_python_async", "openai_python"])
def test_an_unmodified_client_comes_up_the_whole_ladder(variables: dict[str, str], client: str):
    rungs = climb(client, variables, python=sys.executable)
    assert [(rung.ability, rung.result, rung.detail) for rung in rungs] == [(name, "ok", "") for name in ABILITIES]


def test_a_rung_that_does_not_hold_is_told_as_failed(variables: dict[str, str]):
    rungs = climb("ollama_python", {**variables, "CHAT_MODEL": "no-such-model:1b"}, python=sys.executable)
    told = {rung.ability: rung.result for rung in rungs}
    assert (told["list"], told["chat"], told["cancel"], told["embeddings"]) == ("failed", "failed", "ok", "ok")


def test_a_script_that_breaks_off_fails_at_everything_it_had_not_reached(variables: dict[str, str]):
    rungs = climb("openai_python", {**variables, "OLLAMA_HOST": "no address"}, python=sys.executable)
    assert [rung.ability for rung in rungs] == list(ABILITIES)
    assert {rung.result for rung in rungs} == {"failed"}
