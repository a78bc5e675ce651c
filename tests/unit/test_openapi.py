"""/openapi.json against the routes that are there, and recorded answers against its schemas."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from app.bootstrap import build
from app.config import Settings
from app.gateway import create_routes, sign_in
from app.gateway.openapi import document
from tests.recordings import FOLDER, Recording, recording

DOCUMENT = document()


def served(folder: Path) -> set[tuple[str, str]]:
    services = build(Settings(data=folder, port=0, starter=False))
    found = {("GET", sign_in.PATH), ("POST", sign_in.PATH), ("POST", sign_in.OUT_PATH)}  # the guards answer these
    for route in create_routes(services):
        path = re.sub(r"\{(\w+):path\}", r"{\1}", route.path)  # type: ignore[attr-defined]
        found |= {(method, path) for method in route.methods}  # type: ignore[attr-defined]
    return found


def described() -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}


def test_every_route_is_described_and_nothing_else(tmp_path):
    there = served(tmp_path)
    assert there - described() == set(), "served, but not described (app/gateway/openapi/operations.py)"
    assert described() - there == set(), "described, but not served"


def test_the_description_is_sound():
    names = [each["operationId"] for methods in DOCUMENT["paths"].values() for each in methods.values()]
    assert len(set(names)) == len(names)
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    told = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(DOCUMENT)))
    assert told == set(DOCUMENT["components"]["schemas"])


def validator(schema: Any) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def operation_of(told: Recording) -> Any:
    path = told.request.path
    fits = (known for known in DOCUMENT["paths"] if re.fullmatch(re.sub(r"\{\w+\}", ".+", known), path))
    known = next(fits, None)
    return DOCUMENT["paths"].get(known, {}).get(told.request.method.lower())


def answer_of(told: Recording, operation: Any) -> Any:
    """The schema of an answer of that status and type; None where there is none."""
    responses = operation["responses"]
    response = responses.get(str(told.status), responses["default"])
    kind = told.headers.get("content-type", "").partition(";")[0]
    return response.get("content", {}).get(kind, {}).get("schema")


def pieces(told: Recording) -> list[Any]:
    """The JSON records of an answer; of a stream of events none."""
    if told.lines:
        return [json.loads(line) for line in told.lines if line.startswith("{")]
    return [] if told.body is None else [told.body]


def recorded() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.json"))


@pytest.mark.parametrize("name", recorded())
def test_a_recorded_answer_is_as_described(name):
    told = recording(name)
    operation = operation_of(told)
    if operation is None:
        assert told.status in (204, 404, 405, 403), name  # a preflight, unknown paths, wrong methods, strangers
        return
    schema = answer_of(told, operation)
    answers = pieces(told)
    if schema is None:
        assert not answers or told.request.method == "HEAD" or told.status in (403, 404), name
        return
    for answer in answers:
        validator(schema).validate(_uncut(answer))


@pytest.mark.parametrize("name", recorded())
def test_a_recorded_request_that_was_taken_is_as_described(name):
    told = recording(name)
    operation = operation_of(told)
    if told.status >= 400 or operation is None or "requestBody" not in operation or told.request.body is None:
        return
    validator(operation["requestBody"]["content"]["application/json"]["schema"]).validate(told.request.body)


def test_a_wrong_answer_is_none():
    schema = {"$ref": "#/components/schemas/ChatAnswer"}
    right = recording("chat_plain").body
    assert validator(schema).is_valid(right)
    assert not validator(schema).is_valid({key: value for key, value in right.items() if key != "message"})
    assert not validator(schema).is_valid({**right, "eval_count": "8"})


def _uncut(value: Any) -> Any:
    """Long arrays of a recording end in "<n more>"."""
    if isinstance(value, list):
        return [_uncut(each) for each in value if not (isinstance(each, str) and re.fullmatch(r"<\d+ more>", each))]
    return {key: _uncut(each) for key, each in value.items()} if isinstance(value, dict) else value
