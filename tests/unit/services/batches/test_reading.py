"""Files of prompts: what each form becomes, and what is said of a line that cannot be used."""

from __future__ import annotations

import json

import pytest

from app.core.errors import BadRequest
from app.services.batches.reading import MOST, form_of, read_prompts
from app.services.batches.values import Defaults, Form

M = Defaults("m:1b")


def line(**more: object) -> str:
    body = {"model": "m:1b", "messages": [{"role": "user", "content": "Hi"}]}
    return json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body, **more})


@pytest.mark.parametrize(
    ("name", "content", "form"),
    [
        ("a.csv", '{"a": 1}', Form.CSV), ("a.TSV", "prompt", Form.CSV), ("a.txt", '"Hello", she said', Form.TEXT),
        ("a", "Why?\nHow?", Form.TEXT), ("a", '{"prompt": "Why?"}', Form.JSONL), ("a", '\n"Why?"', Form.JSONL),
        ("a.jsonl", "Why?", Form.JSONL), ("a", line(), Form.OPENAI), ("a", '{"url": "x", "prompt": "y"}', Form.JSONL),
    ],
)  # fmt: skip
def test_a_file_is_known_by_its_ending_and_its_first_line(name: str, content: str, form: Form) -> None:
    assert form_of(name, content) is form


def test_plain_lines_are_a_prompt_each() -> None:
    prompts = read_prompts("a.txt", "\ufeffWhy?\r\n\n  How? \n", None, Defaults("m:1b", "Be brief.", {"seed": 1}))
    assert [(one.seq, one.name, one.body["messages"]) for one in prompts] == [
        (1, "1", [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]),
        (2, "2", [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How?"}]),
    ]
    assert prompts[0].body["options"] == {"seed": 1} and prompts[0].body["stream"] is False


def test_json_lines_say_what_they_want_and_the_rest_comes_back() -> None:
    rows = [
        {"id": 7, "question": "Why?", "model": "n:2b", "options": {"seed": 2}, "topic": "sky"},
        {"messages": [{"role": "system", "content": "Own."}, {"role": "user", "content": "How?"}], "format": "json"},
    ]
    given = "\n".join(json.dumps(row) for row in [*rows, "Only a text"])
    first, second, third = read_prompts("a.jsonl", given, None, Defaults("m:1b", "Other.", {"seed": 1, "top_k": 3}))
    assert (first.name, first.model, first.body["options"]) == ("7", "n:2b", {"seed": 2, "top_k": 3})
    assert first.given == rows[0]
    assert [turn["content"] for turn in second.body["messages"]] == ["Own.", "How?"]  # type: ignore[index,union-attr]
    assert (second.model, second.body["format"]) == ("m:1b", "json")
    assert third.given == {"prompt": "Only a text"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_has_a_prompt_in_each_row_and_other_columns_beside_it(delimiter: str) -> None:
    rows = [["Id", "Prompt", "options"], ["x", 'Say "hi"\nand more', "large"], ["y", "How?", "small"], ["", "", ""]]
    content = "\r\n".join(delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows)
    prompts = read_prompts("a.csv", content, None, M)
    assert [(one.name, one.body["messages"][0]["content"]) for one in prompts] == [  # type: ignore[index,call-overload]
        ("x", 'Say "hi"\nand more'), ("y", "How?"),
    ]  # fmt: skip
    assert prompts[0].given == {"Id": "x", "Prompt": 'Say "hi"\nand more', "options": "large"}  # named as it came
    assert "options" not in prompts[0].body


def test_empty_cells_and_columns_without_a_name_are_no_slip() -> None:
    numbered, ragged = ",Prompt\n0,Why?\n1,How?,,\n,,,\n", "Prompt,,\nWhy?,,,\n"
    rows = [{"": "0", "Prompt": "Why?"}, {"": "1", "Prompt": "How?"}]
    assert [one.given for one in read_prompts("a.csv", numbered, None, M)] == rows
    assert [one.given for one in read_prompts("a.csv", ragged, None, M)] == [{"Prompt": "Why?"}]


def test_half_of_a_pair_of_code_units_is_replaced_so_that_its_answer_can_be_written() -> None:
    [prompt] = read_prompts("a.jsonl", '{"prompt": "cut \\ud83d", "id": "\\ude00"}', None, M)
    assert (prompt.name, prompt.given["prompt"]) == ("\ufffd", "cut \ufffd")


def test_openais_lines_keep_their_route_and_never_stream() -> None:
    embed = {"model": "e:1b", "input": "Hi"}
    content = "\n".join([
        line(body={"model": "m:1b", "messages": [{"role": "user", "content": "Hi"}], "stream": True}),
        line(custom_id="b", url="/v1/embeddings", body=embed),
    ])  # fmt: skip
    chat, vectors = read_prompts("a.jsonl", content)
    assert (chat.name, chat.url, "stream" in chat.body) == ("a", "/v1/chat/completions", False)
    assert (vectors.name, vectors.url, vectors.body) == ("b", "/v1/embeddings", embed)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", "", "there is no prompt in it"),
        ("a.json", '[{"prompt": "x"}]', "one JSON object on each line"),
        ("a.json", '{\n  "prompt": "x"\n}', "write each one on a line of its own"),
        ("a", '{"a":' * 5000, "line 1: not JSON: exceeded max depth"),
        ("a.jsonl", '{"prompt": "x", "n": NaN}', "line 1: not JSON"),
        ("a.jsonl", '{"prompt": "x", "model": 5}', "line 1: model has to be a text"),
        ("a.jsonl", '{"prompt": "x"}\n{"prompt": ', "line 2: not JSON"),
        ("a.jsonl", '{"text": " "}', "line 1: no prompt: it wants prompt, question, text, content or messages"),
        ("a.jsonl", "7", "line 1: neither a text nor an object, but 7"),
        ("a.jsonl", '{"prompt": "x", "options": 3}', "options has to be an object"),
        ("a.jsonl", '{"prompt": "x", "think": "wild"}', "think"),
        ("a.jsonl", '{"messages": ["x"]}', 'an object with "role" and "content"'),
        ("a.jsonl", f"{line()}\n{line()}", "the custom_id 'a' is there 2 times"),
        ("a.csv", "name,word\nx,y", "needs a column named prompt or question"),
        ("a.csv", "prompt,Id,id\nx,y,z", "two columns of the CSV file are named id"),
        ("a.csv", 'id,prompt\n1,fine\n2,Hello, how are you\n', "line 3: more cells than columns, from ' how are you'"),
        ("a.csv", 'id,prompt\n1,fine\n2,"Hello\n3,x\n', 'line 3: a quote (") is opened there and never closed'),
        ("a.jsonl", line(custom_id=""), "line 1: custom_id is missing"),
        ("a.jsonl", line(url="/v1/images"), "url has to be one of /v1/chat/completions"),
        ("a.jsonl", line(method="GET"), "method has to be POST"),
        ("a.jsonl", line(body={"model": "m", "messages": []}), "too short"),
        ("a.jsonl", line(body={"messages": [{"role": "user", "content": "x"}]}), "body.model is missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named_with_its_line(name: str, content: str, told: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read_prompts(name, content, None, M)
    assert refused.value.message.startswith(name) or name == "a.csv"
    assert told in refused.value.message


def test_many_wrong_lines_are_told_by_a_few() -> None:
    with pytest.raises(BadRequest) as refused:
        read_prompts("a.jsonl", "\n".join(["{}"] * 40), Form.JSONL, M)
    assert refused.value.message.count("line ") == 5 and refused.value.message.endswith("…")


def test_a_prompt_without_a_model_is_refused() -> None:
    with pytest.raises(BadRequest, match="no model is named"):
        read_prompts("a.txt", "Why?")


def test_rows_of_our_own_forms_may_share_an_id() -> None:
    assert [one.name for one in read_prompts("a.csv", "id,prompt\nx,Why?\nx,How?\n", None, M)] == ["x", "x"]


def test_a_file_that_is_too_long_is_refused() -> None:
    with pytest.raises(BadRequest, match="split the file"):
        read_prompts("a.txt", "x\n" * (MOST + 1), None, M)
