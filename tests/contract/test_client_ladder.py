"""The ladder of clients, for those that the development environment has; `make clients` sends up all of them.

`CLIENT_LADDER=all` sends each of them up at every place.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client_ladder import ABILITIES, Rung, cell, climb, remarks, table, written
from tests.client_page import Block, blocks, run
from tests.client_places import PLACES, Variables, places

pytestmark = [pytest.mark.model, pytest.mark.timeout(300), pytest.mark.xdist_group("client ladder")]
HERE = ("ollama_python", "ollama_python_async", "openai_python", "anthropic_python")
SHORT = [
    ("ollama_python_async", "runtime"), ("ollama_python", "gateway"), ("openai_python", "gateway"),
    ("anthropic_python", "gateway"), ("openai_python", "embedded"),
]  # fmt: skip
CLIMBED = list(itertools.product(HERE, PLACES)) if os.environ.get("CLIENT_LADDER") == "all" else SHORT


@pytest.fixture(scope="module")
def ready() -> Iterator[dict[str, Variables]]:
    with places() as told:
        assert all(value for variables in told.values() for value in variables.values()), f"a model is missing: {told}"
        yield told


@pytest.mark.parametrize(("client", "place"), CLIMBED)
def test_an_unmodified_client_comes_up_the_whole_ladder(ready: dict[str, Variables], client: str, place: str):
    rungs = climb(client, ready[place], python=sys.executable)
    assert [rung.ability for rung in rungs] == list(ABILITIES)
    assert [(rung.ability, rung.detail) for rung in rungs if rung.result == "failed"] == []
    untried = {rung.ability for rung in rungs if rung.result == "-"}
    assert untried == ({"embeddings"} if client.startswith("anthropic") else set()) | (
        set() if place == "gateway" else {"key"}
    )


def test_rungs_that_do_not_hold_are_told_as_failed(ready: dict[str, Variables]):
    wrong = {"CHAT_MODEL": "no-such-model:1b", "KEY": "another-key"}
    rungs = climb("ollama_python", {**ready["gateway"], **wrong}, python=sys.executable)
    told = {rung.ability: rung.result for rung in rungs}
    assert {name for name, result in told.items() if result == "failed"} == {"list", "chat", "stream", "key"}
    assert (told["cancel"], told["embeddings"]) == ("ok", "ok")


def test_a_script_that_breaks_off_fails_at_everything_it_had_not_reached(ready: dict[str, Variables]):
    rungs = climb("openai_python", {**ready["runtime"], "OLLAMA_HOST": "no address"}, python=sys.executable)
    assert [rung.ability for rung in rungs] == list(ABILITIES)
    assert {rung.result for rung in rungs} - {"-"} == {"failed"}


def test_the_table_tells_where_a_client_failed_and_what_it_has_not():
    rungs = [Rung("one", ability, "ok", "", place) for ability in ABILITIES for place in ("runtime", "gateway")]
    rungs += [Rung("two", "chat", "ok", "", "runtime"), Rung("two", "chat", "failed", "it broke", "gateway")]
    rungs += [Rung("two", "key", "-", "it shows none", place) for place in ("runtime", "gateway")]
    assert cell([Rung("one", "key", "-", "", "runtime"), Rung("one", "key", "ok", "", "gateway")]) == "ok"
    assert "| two | - | runtime: ok, gateway: failed |" in table(rungs)
    assert remarks(rungs) == ["* two, chat, gateway: failed: it broke", "* two, key: it shows none"]
    page = written("before\n<!-- what `make clients` wrote -->\nold\n<!-- until here -->\nafter\n", rungs)
    assert page.startswith("before\n") and page.endswith("after\n") and "old" not in page and "| one | ok |" in page


def runs_here(block: Block) -> bool:
    """What needs nothing but the development environment."""
    modules = re.findall(r"^(?:import|from) (\w+)", block.text, re.MULTILINE)
    known = all(importlib.util.find_spec(name) for name in modules)
    return block.text.startswith("curl ") or (block.language == "python" and known)


@pytest.mark.parametrize("block", [pytest.param(block, id=block.title) for block in blocks() if runs_here(block)])
def test_what_the_page_tells_to_run_runs(ready: dict[str, Variables], block: Block):
    assert run(block, ready["embedded"], python=Path(sys.executable))


def test_the_page_has_a_block_for_every_client_that_the_development_environment_has():
    told = [block.title for block in blocks() if runs_here(block)]
    assert told[0].startswith("curl ") and told[1:] == ["import ollama", "import openai", "import anthropic"]
