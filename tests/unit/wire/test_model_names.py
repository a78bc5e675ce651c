"""Model names as Ollama reads them (protocol 6.1)."""

from __future__ import annotations

import pytest

from app.core.errors import BadRequest, NotAllowed
from app.wire.model_names import parse_name, parse_reference

VALID = [
    ("smollm2", "registry.ollama.ai/library/smollm2:latest", "smollm2:latest"),
    ("smollm2:135m-q4_K_M", "registry.ollama.ai/library/smollm2:135m-q4_K_M", "smollm2:135m-q4_K_M"),
    ("me/mine:v1", "registry.ollama.ai/me/mine:v1", "me/mine:v1"),
    ("127.0.0.1:5000/library/ok:q8_0", "127.0.0.1:5000/library/ok:q8_0", "127.0.0.1:5000/library/ok:q8_0"),
    ("http://127.0.0.1:5000/library/x", "127.0.0.1:5000/library/x:latest", "127.0.0.1:5000/library/x:latest"),
    ("hf.co/a/b:Q4_K_M", "hf.co/a/b:Q4_K_M", "hf.co/a/b:Q4_K_M"),
    ("registry.ollama.ai/library/a", "registry.ollama.ai/library/a:latest", "a:latest"),
]  # fmt: skip
INVALID = ["", "a b/c:d:e", "m:", "/m", "m@sha256:1", "../etc:x", "a/../b", ".hidden", "-x", "a" * 81, "n.s/m", "é"]


@pytest.mark.parametrize(("text", "full", "shortest"), VALID)
def test_names_are_filled_in_and_shown_short(text: str, full: str, shortest: str):
    name = parse_name(text)
    assert (name.is_valid, name.full, name.shortest) == (True, full, shortest)


@pytest.mark.parametrize("text", INVALID)
def test_what_is_no_name_is_refused(text: str):
    assert not parse_name(text).is_valid
    with pytest.raises(BadRequest, match="invalid model name"):
        parse_reference(text)


def test_spaces_around_a_name_and_the_suffix_local_are_dropped():
    assert parse_reference("  m:local ").shortest == "m:latest"
    assert parse_reference("m:7b").folded == parse_reference("M:7B").folded


@pytest.mark.parametrize("text", ["m:cloud", "m:120b-cloud", "M:CLOUD"])
def test_cloud_models_are_not_reached_from_here(text: str):
    with pytest.raises(NotAllowed, match="ollama cloud is disabled: remote inference is unavailable"):
        parse_reference(text)


def test_two_sources_at_once_are_refused():
    with pytest.raises(BadRequest, match='use either :local or :cloud, not both: "m:cloud:local"'):
        parse_reference("m:cloud:local")
