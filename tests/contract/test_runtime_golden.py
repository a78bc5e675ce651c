"""The recorded session of a real Ollama, played against fresh runtimes started as processes: every case of the index.

`GOLDEN_BASE_URL` names another server to play it against, with an empty store. What needs a process started in a
certain way is then left out.
"""

from __future__ import annotations

import hashlib
import os

import pytest

from app.runtime.model_store import ModelStore
from tests import golden_compare, golden_table, offline_replay
from tests.creating import UPLOADED, loose_files, sound_names, stored
from tests.golden_registry import golden_registry
from tests.golden_session import BUSY, OFFLINE, Outcome, cases, play_busy, play_session
from tests.http_target import HttpTarget, Reply
from tests.recordings import FOLDER, names, recording
from tests.runtime_process import runtime

pytestmark = [pytest.mark.model, pytest.mark.timeout(600), pytest.mark.xdist_group("golden")]
ELSEWHERE = os.environ.get("GOLDEN_BASE_URL", "")
Outcomes = dict[str, Outcome]


def test_every_case_of_the_index_is_played_or_has_a_reason():
    played = cases()
    assert len(played) == len(set(played)) == len(names())
    assert sorted(played) == names()
    assert golden_compare.NOT_PLAYED.keys() | golden_compare.MEASURED.keys() <= set(played)


def test_the_table_in_the_documentation_is_what_is_played():
    assert golden_table.PAGE.read_text() == golden_table.page(), "write it anew: python -m tests.golden_table"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    return ModelStore(tmp_path_factory.mktemp("golden") / "store")


@pytest.fixture(scope="module")
def outcomes(store: ModelStore) -> Outcomes:
    with golden_registry() as registry:
        if ELSEWHERE:
            return play_session(HttpTarget(ELSEWHERE), registry)
        log = store.root.with_name("log")
        with runtime(store.root, log) as server:
            outcomes = play_session(server, registry)
    with runtime(store.root, log, OLLAMA_NUM_PARALLEL="1", OLLAMA_MAX_QUEUE="1") as server:
        return outcomes | play_busy(server)


@pytest.mark.parametrize("case", [case for case in cases() if case not in OFFLINE])
def test_the_answer_is_ollamas(outcomes: Outcomes, case: str):
    if case in golden_compare.NOT_PLAYED:
        pytest.skip(golden_compare.NOT_PLAYED[case])
    if ELSEWHERE and case in BUSY:
        pytest.skip("needs a server with a queue of one")
    outcome = outcomes[case]
    if isinstance(outcome, Exception):
        raise outcome
    golden_compare.check(recording(case), outcome)


@pytest.mark.skipif(bool(ELSEWHERE), reason="needs the folder of the store")
def test_after_the_session_the_store_holds_the_recorded_manifests_and_the_uploads(
    outcomes: Outcomes, store: ModelStore
):
    for path in (FOLDER / "store").glob("*.json"):
        told = stored(path.stem)
        assert (store.root / told["path"]).read_text() == told["manifest_text"]
    assert len(sound_names(store)) == len(recording("tags_after_pull").body["models"])
    under_a_wrong_digest = hashlib.sha256(recording("blob_wrong_digest").request.content).hexdigest()
    assert loose_files(store) == {f"sha256-{UPLOADED}", f"sha256-{under_a_wrong_digest}"}


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reply]:
    if ELSEWHERE:
        pytest.skip("needs a server in a network of its own")
    if reason := offline_replay.impossible():
        pytest.skip(reason)
    return offline_replay.play_apart(tmp_path_factory.mktemp("offline"))


@pytest.mark.parametrize("case", OFFLINE)
def test_without_a_network_the_answer_is_ollamas(apart: dict[str, Reply], case: str):
    golden_compare.check(recording(case), apart[case])
