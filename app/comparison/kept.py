"""What the store keeps of a comparison, as values. Everything here blocks."""

from __future__ import annotations

from collections.abc import Sequence

from app.comparison import quality as figures
from app.comparison.forcing import TextRows, rows_from_json
from app.comparison.plan import Asked
from app.comparison.progress import CONTROL, Progress, Raw
from app.comparison.result_json import Unreadable, from_json
from app.comparison.results import TokenRow
from app.comparison.scorecard_store import ScorecardStore
from app.comparison.tasks import TaskOutcome, outcome_from_json
from app.core.errors import BadRequest


def kept_asked(store: ScorecardStore, card_id: str) -> Asked:
    """What was asked for. Raises `BadRequest` where that cannot be read any more."""
    try:
        return from_json(Asked, store.read(card_id, "asked"))
    except Unreadable as error:
        sentence = "what this comparison was asked for cannot be read any more; begin a new one"
        raise BadRequest(sentence, "comparison") from error


def kept_progress(store: ScorecardStore, card_id: str) -> Progress:
    """What was measured; nothing where that cannot be read."""
    told = store.read(card_id, "progress")
    try:
        return from_json(Progress, told) if told is not None else Progress()
    except Unreadable:
        return Progress()


def kept_raw(store: ScorecardStore, card_id: str, digests: Sequence[str]) -> Raw:
    rows = {digest: kept_rows(store, card_id, digest) for digest in (*digests, CONTROL)}
    return Raw(rows, {digest: kept_outcomes(store, card_id, digest) for digest in digests})


def kept_rows(store: ScorecardStore, card_id: str, digest: str) -> list[TextRows]:
    """One row of rows for each text; the last one where a text was measured twice."""
    rows = [rows_from_json(row) for row in store.rows(card_id, digest) if isinstance(row, dict)]
    return list({row.text_id: row for row in rows}.values())


def kept_outcomes(store: ScorecardStore, card_id: str, digest: str) -> list[TaskOutcome]:
    rows = store.rows(card_id, tasks_of(digest))
    return [outcome_from_json(row) for row in rows if isinstance(row, dict)]


def tasks_of(digest: str) -> str:
    """The name under which the outcomes of tasks are kept."""
    return f"tasks.{digest}"


def kept_positions(store: ScorecardStore, card_id: str, reference: str, variant: str) -> tuple[TokenRow, ...]:
    texts = kept_progress(store, card_id).texts
    return figures.token_rows(texts, kept_rows(store, card_id, reference), kept_rows(store, card_id, variant))
