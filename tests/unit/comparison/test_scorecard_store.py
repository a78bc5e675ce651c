"""Scorecards on disk: the same after they are read, whatever moment the process ended at."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from app.comparison.progress import Measured, Progress
from app.comparison.result_json import Unreadable, from_json, to_json
from app.comparison.results import Estimate, Scorecard
from app.comparison.scorecard_store import ComparisonNotFound, ScorecardStore
from app.comparison.speed import SpeedSamples
from tests.unit.comparison import cards


@pytest.fixture
def store(tmp_path: Path) -> ScorecardStore:
    return ScorecardStore(tmp_path / "cards")


def card(name: str = "20261126-200000-aaaa", at: float = 1.0) -> Scorecard:
    return replace(cards.card(), id=name, started_at=at)


def test_a_scorecard_is_the_same_after_it_was_kept(store: ScorecardStore) -> None:
    store.write_card(card())
    assert store.cards() == [card()]


def test_json_of_a_scorecard_is_json_that_any_reader_takes() -> None:
    odd = replace(card(), variants=(replace(card().variants[0], depths=()),), options={"stop": None, "seed": 1})
    text = json.dumps(to_json(odd), allow_nan=False)
    assert from_json(Scorecard, json.loads(text)) == odd


def test_a_figure_without_end_is_null_and_comes_back() -> None:
    told = to_json(Estimate(math.inf, 2.0, math.inf))
    assert told == {"value": None, "low": 2.0, "high": None, "n": 1}
    assert from_json(Estimate, told) == Estimate(math.inf, 2.0, None)


def test_files_of_other_versions_stay_readable_and_nonsense_is_refused() -> None:
    assert from_json(Estimate, {"value": 1.0, "of_tomorrow": 2}) == Estimate(1.0)
    for nonsense in (None, [], {"value": "much"}, {"value": 1.0, "n": "three"}, {}):
        with pytest.raises(Unreadable):
            from_json(Estimate, nonsense)


def test_progress_comes_back_with_its_samples() -> None:
    samples = SpeedSamples([1.0], [0.2], [300.0], 0, [[60.0, 61.0], [59.0]], [], 0.7, 1)
    progress = Progress(("speed 0 0",), {"d": Measured(samples, 9, 4096, 100, 0)}, seconds=3.5)
    assert from_json(Progress, json.loads(json.dumps(to_json(progress)))) == progress


def test_the_newest_comes_first_and_a_damaged_one_is_left_out(store: ScorecardStore, tmp_path: Path) -> None:
    for name, at in (("aa", 1.0), ("bb", 3.0), ("cc", 2.0)):
        store.write_card(card(name, at))
    (tmp_path / "cards" / "cc" / "card.json").write_text('{"id": "cc"')
    assert [one.id for one in store.cards()] == ["bb", "aa"]


def test_a_row_that_was_being_written_when_the_process_ended_costs_itself_alone(
    store: ScorecardStore, tmp_path: Path
) -> None:
    store.append("aa", "sha256:d1", {"text": "one"})
    (file,) = (tmp_path / "cards" / "aa").glob("rows-*")
    with file.open("ab") as opened:
        opened.write(b'{"text": "tw')
    store.append("aa", "sha256:d1", {"text": "three"})
    assert store.rows("aa", "d1") == [{"text": "one"}, {"text": "three"}]


def test_references_are_kept_whole_under_their_key_and_the_oldest_go(
    store: ScorecardStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.comparison.scorecard_store.KEPT_REFERENCES", 2)
    for key in ("k1", "k2", "k3"):
        store.keep_reference(key, [["texts"], {"row": key}])
    store.keep_reference("k3", [["texts"], {"row": "again"}])
    assert store.reference("k3") == [["texts"], {"row": "again"}]
    assert sum(bool(store.reference(key)) for key in ("k1", "k2", "k3")) == 2


def test_what_is_deleted_is_gone(store: ScorecardStore, tmp_path: Path) -> None:
    store.write_card(card("aa"))
    store.append("aa", "d", {})
    store.delete("aa")
    assert not store.cards() and not (tmp_path / "cards" / "aa").exists()


@pytest.mark.parametrize("name", ["../../etc", "", "a/b", "references", "A", "a" * 65])
def test_no_name_leads_out_of_the_folder(store: ScorecardStore, name: str) -> None:
    with pytest.raises(ComparisonNotFound):
        store.delete(name)
