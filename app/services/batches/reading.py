"""Files of prompts, read: JSON lines, CSV, plain text, and OpenAI's batch format. Pure.

Every prompt is checked before the first one is asked, so that a slip in line 400 is told at once and not in the night.
Raises `BadRequest` with the lines that cannot be used, and what would do.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from app.core.errors import BadRequest
from app.core.generation import Json
from app.services.batches.values import Defaults, Form, Prompt
from app.wire.go_json import JsonError, loads_whole
from app.wire.requests import decode
from app.wire.v1 import DIALECTS

MOST = 50_000  # prompts of one file, as with OpenAI
TOLD = 5  # wrong lines that are told
CHAT = "/api/chat"
OPENAI_URLS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
_TEXTS = ("prompt", "question", "text", "content")
_NAMES = ("custom_id", "id", "key")
_PASSED_ON = ("format", "think", "tools", "keep_alive", "logprobs", "top_logprobs")
_DELIMITERS = ",;\t"
_TOO_MANY = "\0"  # no name of a column: what stands in a row beyond the last one


def read_prompts(name: str, content: str, form: Form | None = None, defaults: Defaults | None = None) -> list[Prompt]:
    """The prompts of a file. `name` is the file's own, `form` what it is where that is not to be guessed."""
    form, defaults = form or form_of(name, content), defaults or Defaults()
    prompts, wrong = list[Prompt](), list[str]()
    for line, row in _rows(form, content):
        if len(prompts) >= MOST:
            raise BadRequest(f"{name}: more than {MOST:,} prompts; split the file", "file")
        try:
            given = _parsed(row) if isinstance(row, str) and form is not Form.TEXT else row
            seq = len(prompts) + 1
            prompts.append(_openai(seq, given) if form is Form.OPENAI else _own(seq, given, form, defaults))
        except BadRequest as problem:
            wrong.append(f"line {line}: {problem.message}")
            if len(wrong) == TOLD:
                break
    if wrong:
        raise BadRequest(f"{name}: {'; '.join(wrong)}{' …' if len(wrong) == TOLD else ''}", "file")
    if not prompts:
        raise BadRequest(f"{name}: there is no prompt in it", "file")
    if form is Form.OPENAI:  # whose clients tell answers apart by it; our own forms give the row back
        _check_names(name, prompts)
    return prompts


def form_of(name: str, content: str) -> Form:
    """What the file is, by its ending and its first line."""
    ending = name.rpartition(".")[2].lower()
    if ending in ("csv", "tsv", "txt"):
        return Form.TEXT if ending == "txt" else Form.CSV
    first = next((line.strip() for line in content.removeprefix("\ufeff").split("\n") if line.strip()), "")
    if first.startswith("["):
        raise BadRequest(f"{name}: a list; write one JSON object on each line instead, without [ and commas", "file")
    if first == "{":
        raise BadRequest(f"{name}: an object over several lines; write each one on a line of its own", "file")
    if not first.startswith(("{", '"')) and ending not in ("json", "jsonl", "ndjson"):
        return Form.TEXT
    try:
        row = loads_whole(first)
    except JsonError:
        return Form.JSONL  # which will say what is wrong with it
    return Form.OPENAI if isinstance(row, dict) and "url" in row and "body" in row else Form.JSONL


def _rows(form: Form, content: str) -> Iterator[tuple[int, Json]]:
    """(number of the line, what stands there)."""
    if form is Form.CSV:
        yield from _table(content)
        return
    for number, line in enumerate(content.removeprefix("\ufeff").split("\n"), start=1):
        if line.strip():
            yield number, line.strip() if form is Form.TEXT else line


def _table(content: str) -> Iterator[tuple[int, Json]]:
    content = content.removeprefix("\ufeff")
    head = content.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=head.count)
    csv.field_size_limit(1 << 24)
    reader = csv.DictReader(io.StringIO(content, newline=""), delimiter=delimiter, restkey=_TOO_MANY, strict=True)
    line = 0
    try:
        _check_columns([column.strip() for column in reader.fieldnames or ()])
        line = reader.line_num
        for row in reader:
            more: list[Json] = [cell for cell in row.pop(_TOO_MANY, ()) if cell.strip()]
            told: dict[str, Json] = {
                key.strip(): value for key, value in row.items() if value is not None and (key.strip() or value.strip())
            }
            if more or any(str(value).strip() for value in told.values()):
                yield reader.line_num, {**told, _TOO_MANY: more} if more else told
            line = reader.line_num
    except csv.Error as problem:
        why = 'a quote (") is opened there and never closed' if "end of data" in str(problem) else str(problem)
        raise BadRequest(f"line {line + 1}: {why}", "file") from problem


def _check_columns(columns: list[str]) -> None:
    known = [column.lower() for column in columns]
    if not any(text in known for text in _TEXTS):
        told = f"its columns are {', '.join(columns)[:200]}" if columns else "it is empty"
        raise BadRequest(f"a CSV file needs a column named {' or '.join(_TEXTS)} in its first line; {told}", "file")
    if twice := next((column for column in known if column and known.count(column) > 1), ""):
        raise BadRequest(f"two columns of the CSV file are named {twice[:60]}; rename one of them", "file")


def _parsed(line: str) -> Json:
    try:
        return loads_whole(line)
    except JsonError as problem:
        raise BadRequest(f"not JSON: {problem.message}") from problem


def _own(seq: int, given: Json, form: Form, defaults: Defaults) -> Prompt:
    """A text, or an object with a prompt or messages; what else stands there comes back with the answer."""
    given = _object(given)
    row = {key.lower(): value for key, value in given.items()} if form is Form.CSV else given
    _check_cells(row)
    body: dict[str, Json] = {"model": _text(row, "model") or defaults.model, "messages": _messages(row, defaults)}
    meant = row if form is Form.JSONL else {}  # the other columns of a table are its owner's affair
    body |= {key: meant[key] for key in _PASSED_ON if meant.get(key) is not None}
    options = meant.get("options")
    if options is not None and not isinstance(options, dict):
        raise BadRequest('options has to be an object, like {"temperature": 0}')
    if merged := {**defaults.options, **(options if isinstance(options, dict) else {})}:
        body["options"] = merged
    if not body["model"]:
        raise BadRequest("no model is named; name one for the whole batch, or on the line")
    name = next((str(row[key]) for key in _NAMES if row.get(key) not in (None, "")), "")
    return Prompt(seq, name or str(seq), CHAT, decode("ChatRequest", json.dumps({**body, "stream": False})), given)


def _check_cells(row: Mapping[str, Json]) -> None:
    """Nothing of a row is left out in silence: neither what is no text, nor the rest of a text with a comma in it."""
    if isinstance(more := row.get(_TOO_MANY), list):
        raise BadRequest(
            f"more cells than columns, from {str(more[0])[:40]!r} on; put a text with the separator in it in quotes"
        )
    for key in ("model", "system"):
        if row.get(key) is not None and not isinstance(row[key], str):
            raise BadRequest(f"{key} has to be a text")


def _object(given: Json) -> dict[str, Json]:
    if isinstance(given, str):
        return {"prompt": given}
    if not isinstance(given, dict):
        raise BadRequest(f"neither a text nor an object, but {json.dumps(given)[:40]}")
    return given


def _messages(row: Mapping[str, Json], defaults: Defaults) -> list[Json]:
    turns: list[Json] = []
    if isinstance(told := row.get("messages"), list) and told:
        if not all(isinstance(turn, dict) and isinstance(turn.get("role"), str) for turn in told):
            raise BadRequest('each of messages has to be an object with "role" and "content"')
        turns = list(told)
    else:
        text = next((row[key] for key in _TEXTS if isinstance(row.get(key), str)), "")
        if not str(text).strip():
            raise BadRequest(f"no prompt: it wants {', '.join(_TEXTS)} or messages")
        images = row.get("images")
        turns = [{"role": "user", "content": text, **({"images": images} if isinstance(images, list) else {})}]
    system = _text(row, "system") or defaults.system
    says = any(isinstance(turn, dict) and turn.get("role") == "system" for turn in turns)
    return [{"role": "system", "content": system}, *turns] if system and not says else turns


def _openai(seq: int, given: Json) -> Prompt:
    """A line of OpenAI's batch format, read by the dialect of its route as that would read it."""
    row: dict[str, Json] = given if isinstance(given, dict) else {}
    name, url, body = _text(row, "custom_id"), _text(row, "url"), row.get("body")
    if not name:
        raise BadRequest("custom_id is missing")
    if row.get("method", "POST") != "POST":
        raise BadRequest("method has to be POST")
    if url not in OPENAI_URLS:
        raise BadRequest(f"url has to be one of {', '.join(OPENAI_URLS)}")
    if not isinstance(body, dict):
        raise BadRequest("body has to be an object")
    asked = {key: value for key, value in body.items() if key not in ("stream", "stream_options")}
    DIALECTS[url].read(json.dumps(asked).encode(), "application/json")
    if not _text(asked, "model"):
        raise BadRequest("body.model is missing")
    return Prompt(seq, name, url, asked)


def _check_names(file: str, prompts: Iterable[Prompt]) -> None:
    counted = Counter(prompt.name for prompt in prompts)
    if twice := [name for name, times in counted.items() if times > 1]:
        raise BadRequest(
            f"{file}: the custom_id {twice[0][:60]!r} is there {counted[twice[0]]} times; each needs its own", "file"
        )


def _text(row: Mapping[str, Json], key: str) -> str:
    value = row.get(key)
    return value.strip() if isinstance(value, str) else ""
