"""Reading what a host answers to a forced text, holes and all."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.comparison import forcing
from app.comparison.forcing import RowState, plain, positions, read_rows, spoken
from app.comparison.results import ProbeText
from tests.measuring import done_reply
from tests.recordings import recording

TEXT = ProbeText("prose-01", "prose", "Tell.", "The sky is blue", "<user>Tell.")


def entry(token: str, logprob: float = -0.5, top: bool = True):
    listed = [{"token": token, "logprob": logprob}, {"token": "!", "logprob": -4.0}] if top else []
    return {"token": token, "logprob": logprob, "bytes": list(token.encode()), "top_logprobs": listed}


def entries(*tokens: str):
    return [entry(token) for token in tokens]


WHOLE = entries('"', "The", " sky", " is", " blue", '"')


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ('"It rains.', "It rains."),
        ('"It rains."', "It rains."),
        ('"It rains." \n', "It rains."),
        ('"It rains. ', "It rains. "),
        ('"', ""),
        ('"a"b', None),
        ('"a\nb"', None),
        ('"a\\b', None),
        ("It rains.", None),
        ("", None),
    ],
)
def test_what_was_said_within_a_string_is_told_from_other_forms(said, text):
    assert spoken(said) == text


@given(st.text())
def test_a_text_to_force_is_its_own_json_string(answer):
    text = plain(answer)
    assert json.dumps(text) == f'"{text}"' and text.isascii() and text == text.strip() and "\n" not in text


def test_letters_with_accents_become_what_one_writes_without():
    assert plain("Für Straßen, “déjà vu” –\n\n1. x\t\\n") == "Fuer Strassen, deja vu - 1. x n"


def test_quotes_around_the_text_are_no_positions():
    found = positions(TEXT.answer, WHOLE)
    assert [(p.offset, p.token) for p in found] == [(0, "The"), (3, " sky"), (7, " is"), (10, " blue")]


def test_a_token_that_takes_the_opening_quote_along_is_dropped_and_one_with_the_closing_quote_stays():
    found = positions(TEXT.answer, entries('"The', " sky", " is", ' blue"'))
    assert [(p.offset, p.token) for p in found] == [(3, " sky"), (7, " is"), (10, ' blue"')]


def test_after_a_hole_the_walk_goes_on_where_the_next_token_fits():
    found = positions(TEXT.answer, entries('"', "The", " is", "", " blue"))
    assert [(p.offset, p.token) for p in found] == [(0, "The"), (7, " is"), (10, " blue")]


def test_what_is_not_of_the_text_is_no_position():
    assert positions(TEXT.answer, [*entries('"', "The", " moon"), {"logprob": 1}, {"token": 3}]) == positions(
        TEXT.answer, entries('"', "The")
    )


@pytest.mark.parametrize(
    ("reply", "state"),
    [
        (done_reply(WHOLE, TEXT.answer), RowState.OK),
        (done_reply(WHOLE, TEXT.answer, complete=False), RowState.DEGENERATE),
        (done_reply(WHOLE, "The sky is red"), RowState.OTHER_TEXT),
        (done_reply([], TEXT.answer), RowState.NO_LOGPROBS),
        (done_reply([entry(e["token"], 0.0, top=False) for e in WHOLE], TEXT.answer), RowState.NO_LOGPROBS),
    ],
)
def test_the_state_of_a_text(reply, state):
    assert read_rows(TEXT, reply).state is state


def test_accepted_drafts_come_without_a_list():
    found = positions(TEXT.answer, [*entries('"', "The"), entry(" sky", 0.0, top=False)])
    assert [bool(p.top) for p in found] == [True, False]


@pytest.mark.parametrize("value", [None, "x", float("nan"), float("-inf"), -3.4e38])
def test_a_logprob_that_is_no_number_is_very_unlikely(value):
    found = positions("ab", [{"token": '"'}, {"token": "a", "logprob": value, "top_logprobs": [{"token": "a"}]}])
    assert found[0].logprob == -1e6


def test_the_body_forces_the_text_and_leaves_room_for_a_token_a_character():
    body = forcing.forcing_body(TEXT, {"num_ctx": 512})
    assert body["format"] == {"const": TEXT.answer} and body["raw"] is True and body["think"] is False
    assert body["options"] == {"num_ctx": 512, "num_predict": 23}


def test_rows_and_texts_are_the_same_after_json():
    rows = read_rows(TEXT, done_reply(WHOLE, TEXT.answer))
    assert forcing.rows_from_json(json.loads(json.dumps(forcing.rows_to_json(rows)))) == rows
    assert forcing.text_from_json(json.loads(json.dumps(forcing.text_to_json(TEXT)))) == TEXT


@pytest.mark.parametrize("data", [{}, {"positions": [[1]]}, {"positions": 3}])
def test_what_are_no_rows_is_said(data):
    with pytest.raises(ValueError, match="no rows"):
        forcing.rows_from_json(data)
    with pytest.raises(ValueError, match="fields"):
        forcing.text_from_json(data)


def test_a_recorded_answer_of_a_real_ollama_is_read_whole():
    """Off-policy prose: the host cut it into fragments, which is why only a reference's own answers are forced."""
    told = recording("generate_const")
    text = ProbeText("x", "prose", "", " heavy rain is expected over the northern hills tonight", "The weather report:")
    listed = [entry for entry in told.body["logprobs"] if isinstance(entry, dict)]
    found = positions(text.answer, listed)
    assert "".join(p.token for p in found) == text.answer and len(found) == 38 and found[0].token == " "
    assert all(p.top for p in found)
    assert done_reply(listed, text.answer).text == told.body["response"]
