"""The recorded session of a real Ollama, played through Loupe with the embedded runtime as a host of its own: every
client of Ollama finds the same answers behind Loupe, but for what is listed here."""

from __future__ import annotations

import pytest

from tests import golden_compare
from tests.golden_registry import golden_registry
from tests.golden_session import BUSY, OFFLINE, Outcome, cases, play_session
from tests.http_target import HttpTarget
from tests.recordings import recording
from tests.runtime_process import runtime
from tests.served import served_app

pytestmark = [pytest.mark.model, pytest.mark.timeout(600), pytest.mark.xdist_group("golden through the gateway")]

# Case: what differs on purpose, and why.
DIFFERENT = {
    "origin_local": "other origins than Loupe's own are let in by LOUPE_ORIGINS alone",
    "preflight": "other origins than Loupe's own are let in by LOUPE_ORIGINS alone",
    "blob_head_missing": "the length of an error body that a HEAD never sends is not passed on",
    "generate_long_no_truncate": "hosts are always asked for a stream, so an error has the type that it has there",
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    folder = tmp_path_factory.mktemp("gateway")
    with (
        golden_registry() as registry,
        runtime(folder / "store", folder / "log") as host,
        served_app(
            folder / "data", OLLAMA_HOST=host.url, LOUPE_ALLOW_CREATE="on", LOUPE_CACHE_MODE="bypass"
        ) as app,
    ):  # fmt: skip
        app.wait_ready("/healthz")
        return play_session(HttpTarget(app.url), registry)


@pytest.mark.parametrize("case", [case for case in cases() if case not in {*OFFLINE, *BUSY, *DIFFERENT}])
def test_the_answer_through_loupe_is_ollamas(outcomes: dict[str, Outcome], case: str) -> None:
    if case in golden_compare.NOT_PLAYED:
        pytest.skip(golden_compare.NOT_PLAYED[case])
    outcome = outcomes[case]
    if isinstance(outcome, Exception):
        raise outcome
    golden_compare.check(recording(case), outcome)


@pytest.mark.parametrize("case", sorted(DIFFERENT))
def test_what_is_listed_as_different_is(outcomes: dict[str, Outcome], case: str) -> None:
    outcome = outcomes[case]
    assert not isinstance(outcome, Exception)
    with pytest.raises(AssertionError):
        golden_compare.check(recording(case), outcome)
