"""Answers as a file, in each form."""

from __future__ import annotations

import csv
import io
import json

import pytest

from app.core.errors import BadRequest
from app.services.batches.values import Batch, Form, Outcome, Prompt
from app.services.batches.writing import columns_of, file_name, head_of, line_of, written_form

PROMPT = Prompt(1, "x", "/api/chat", {"model": "m"}, {"id": "x", "prompt": "Why?", "topic": "sky", "answer": "old"})
SAID = Outcome(
    {"message": {"role": "assistant", "content": "Because.", "thinking": "Hm."}, "done": True, "done_reason": "stop",
     "prompt_eval_count": 3, "eval_count": 2}, host="one", seconds=1.23456, request_id="r1",
)  # fmt: skip
FAILED = Outcome(status=404, error="model 'm' not found", tries=1)
BATCH = Batch("1", "my file.v2.csv", "local", Form.CSV, 0.0, 1, ("m",))
OPENAI = Prompt(
    1, "x", "/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "Why?"}]}
)  # fmt: skip


def test_json_lines_give_the_row_back_with_the_answer() -> None:
    told = json.loads(line_of(Form.JSONL, (), PROMPT, SAID))
    assert told == {
        "id": "x", "prompt": "Why?", "topic": "sky", "answer": "Because.", "thinking": "Hm.", "error": None,
        "finish_reason": "stop", "model": "m", "host": "one", "prompt_tokens": 3, "output_tokens": 2, "seconds": 1.235,
        "cached": False, "tries": 1,
    }  # fmt: skip


def test_a_table_has_its_own_columns_first() -> None:
    columns = columns_of(tuple(PROMPT.given))
    assert columns[:4] == ("id", "prompt", "topic", "answer")
    content = head_of(columns) + b"".join(line_of(Form.CSV, columns, PROMPT, one) for one in (SAID, FAILED))
    said, failed = csv.DictReader(io.StringIO(content.decode(), newline=""))
    assert (said["answer"], said["error"], failed["error"]) == ("Because.", "", "model 'm' not found")


@pytest.mark.parametrize(
    ("answer", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"), ("@x", "'@x"), ("+1-800", "+1-800"),
        ("-2+3+cmd|'x'!A0", "'-2+3+cmd|'x'!A0"),
        ("- one\n- two", "- one\n- two"), ("a=b", "a=b"),
    ],
)  # fmt: skip
def test_what_a_spreadsheet_would_run_is_a_text(answer: str, cell: str) -> None:
    line = line_of(Form.CSV, ("answer",), PROMPT, Outcome({"message": {"content": answer}}))
    assert next(csv.reader(io.StringIO(line.decode(), newline=""))) == [cell]


def test_openais_form_has_the_answer_of_its_route() -> None:
    told = json.loads(line_of(Form.OPENAI, (), OPENAI, SAID))
    assert (told["id"], told["custom_id"], told["error"]) == ("batch_req_r1", "x", None)
    assert told["response"]["status_code"] == 200
    body = told["response"]["body"]
    assert (body["object"], body["choices"][0]["message"]["content"]) == ("chat.completion", "Because.")
    assert body["usage"]["total_tokens"] == 5
    wrong = json.loads(line_of(Form.OPENAI, (), OPENAI, FAILED))["response"]
    assert (wrong["status_code"], wrong["body"]["error"]["message"]) == (404, "model 'm' not found")


def test_a_file_is_called_after_the_one_that_came() -> None:
    assert file_name(BATCH, Form.CSV) == "my-file.v2-answers.csv"
    assert written_form(BATCH) is Form.CSV and written_form(BATCH, "jsonl") is Form.JSONL
    with pytest.raises(BadRequest, match="format is one of jsonl, csv, openai"):
        written_form(BATCH, "xml")
