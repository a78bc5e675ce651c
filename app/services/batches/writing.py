"""What a batch answered, as a file: JSON lines, CSV, or OpenAI's batch output. Pure: one outcome in, its bytes out.

Our own forms give each row back as it came, with what was answered beside it. A column of the same name as one of ours
(`ANSWERED`) gives way to ours.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence

from app.core.errors import BadRequest
from app.core.generation import Json
from app.services.batches.asking import exchange_of
from app.services.batches.values import Batch, Form, Outcome, Prompt
from app.wire.dialects import BuiltinToolFailed, read_record

ANSWERED = (
    "answer", "thinking", "error", "finish_reason", "model", "host", "prompt_tokens", "output_tokens", "seconds",
    "cached", "tries",
)  # fmt: skip
TYPES = {Form.JSONL: "application/x-ndjson", Form.CSV: "text/csv; charset=utf-8", Form.OPENAI: "application/x-ndjson"}
_FORMULA = re.compile(r"[=@\t\r]|[+-].*[(|!]", re.DOTALL)


def written_form(batch: Batch, asked: str = "") -> Form:
    """In which form to write; without a wish the one that the file came in. Raises `BadRequest`."""
    if not asked:
        return batch.form if batch.form in TYPES else Form.JSONL
    form = next((form for form in TYPES if form == asked), None)
    if form is None:
        raise BadRequest(f"format is one of {', '.join(TYPES)}", "format")
    return form


def file_name(batch: Batch, form: Form) -> str:
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", batch.name.rpartition(".")[0] or batch.name).strip("-.") or "batch"
    return f"{stem}-answers.{'csv' if form is Form.CSV else 'jsonl'}"


def columns_of(given: Sequence[str]) -> tuple[str, ...]:
    """The columns of a CSV file: those that came, in their order, then ours."""
    return (*[name for name in given or ("id", "prompt") if name not in ANSWERED], *ANSWERED)


def head_of(columns: Sequence[str]) -> bytes:
    return _csv(columns)


def line_of(form: Form, columns: Sequence[str], prompt: Prompt, outcome: Outcome) -> bytes:
    """One outcome with its newline. `columns` are for CSV alone."""
    if form is Form.OPENAI:
        return json.dumps(openai_line(prompt, outcome), ensure_ascii=False).encode() + b"\n"
    row = told_row(prompt, outcome)
    if form is Form.CSV:
        return _csv([_cell(row.get(column)) for column in columns])
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def told_row(prompt: Prompt, outcome: Outcome) -> dict[str, Json]:
    """The row as it came, and what was answered; vectors instead of a text where those were asked for."""
    said = read_record(outcome.record)
    row: dict[str, Json] = dict(prompt.given) or {"id": prompt.name, "prompt": question_of(prompt)}
    row |= {
        "answer": said.text, "thinking": said.thinking or None, "error": outcome.error or None,
        "finish_reason": said.reason or None, "model": prompt.model, "host": outcome.host or None,
        "prompt_tokens": outcome.prompt_tokens, "output_tokens": outcome.output_tokens,
        "seconds": round(outcome.seconds, 3), "cached": outcome.cached, "tries": outcome.tries,
    }  # fmt: skip
    if said.calls:
        row["tool_calls"] = [dict(call) for call in said.calls]
    if (vectors := outcome.record.get("embeddings")) is not None:
        row["embeddings"] = vectors
    return row


def question_of(prompt: Prompt) -> str:
    """What was asked last, for people."""
    messages = prompt.body.get("messages") or prompt.body.get("input")
    if isinstance(messages, list):
        turns = [turn for turn in messages if isinstance(turn, dict) and turn.get("role") == "user"]
        content = turns[-1].get("content") if turns else ""
        return content if isinstance(content, str) else json.dumps(content)
    text = prompt.body.get("prompt") or messages
    return text if isinstance(text, str) else ""


def answer_of(outcome: Outcome) -> str:
    """What was answered, for people; vectors are only counted."""
    vectors = outcome.record.get("embeddings")
    if isinstance(vectors, list):
        return f"{len(vectors)} vector{'' if len(vectors) == 1 else 's'}"
    said = read_record(outcome.record)
    return said.text or said.thinking


def openai_line(prompt: Prompt, outcome: Outcome) -> dict[str, Json]:
    """A line of OpenAI's output, or (for one that failed) of its error file."""
    status, body = outcome.status, _error_body(outcome)
    if not outcome.failed:
        try:
            body = _whole(prompt, outcome)
        except BuiltinToolFailed as error:
            status, body = error.status, {"error": {"message": error.message, "type": "api_error"}}
    request_id = outcome.request_id or f"{prompt.seq}"
    response: Json = {"status_code": status, "request_id": request_id, "body": body}
    return {"id": f"batch_req_{request_id}", "custom_id": prompt.name, "response": response, "error": None}


def _error_body(outcome: Outcome) -> Json:
    kind = "invalid_request_error" if 400 <= outcome.status < 500 else "api_error"
    return {"error": {"message": outcome.error, "type": kind, "param": None, "code": None}}


def _whole(prompt: Prompt, outcome: Outcome) -> Json:
    exchange = exchange_of(prompt)
    if exchange is None:
        return dict(outcome.record)
    told: Json = json.loads(exchange.whole(outcome.record).body)
    return told


def _csv(cells: Sequence[str]) -> bytes:
    written = io.StringIO(newline="")
    csv.writer(written).writerow(cells)
    return written.getvalue().encode()


def _cell(value: Json) -> str:
    """A text that a spreadsheet would run as a formula gets a ' before it: models write what they like."""
    if value is None or isinstance(value, Mapping | list):
        return "" if value is None else json.dumps(value, ensure_ascii=False)
    text = value if isinstance(value, str) else json.dumps(value)
    return f"'{text}" if _FORMULA.match(text) else text
