"""`format`: the grammar for "json", and the check of a schema before a worker sees it.

The worker answers an unusable schema with unconstrained text, so schemas are checked here. Sentences: llama.cpp's
converter, as recorded in generate_bad_schema.
"""

from __future__ import annotations

import json

from app.core.errors import HostRefused
from app.core.generation import Json
from app.runtime.schema_grammar import literal, schema_grammar

JSON_GRAMMAR = r"""
root   ::= object
object ::= "{" ws (member ("," ws member)*)? ws "}"
member ::= string ":" ws value
array  ::= "[" ws (value ("," ws value)*)? ws "]"
value  ::= object | array | string | number | ("true" | "false" | "null") ws
string ::= "\"" ([^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" hex hex hex hex))* "\""
number ::= ("-"? ([0-9] | [1-9] [0-9]*)) ("." [0-9]+)? ([eE] [-+]? [0-9]+)?
hex    ::= [0-9a-fA-F]
ws     ::= ([ \t\n] ws)?
"""

MAX_DEPTH, MAX_NODES, MAX_PATTERN, MAX_ENUM, MAX_REPEAT = 48, 4000, 512, 2000, 10_000
MAX_CHAIN = 200  # references and alternatives before anything is said
_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_REPEATS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_MAPS = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
_ONE = ("items", "additionalProperties", "additionalItems", "contains", "not", "if", "then", "else")


def grammar_of(schema: dict[str, Json]) -> str | None:
    """The grammar of a checked schema, or None where it is left to the engine in the worker.

    Of `{"const": …}` llama.cpp's own converter makes one text and leaves the cutting into tokens to the model, and so
    it was recorded (generate_const); the engine in the worker would force the tokenizer's own cutting.
    """
    return f"root ::= {literal(schema['const'])}" if "const" in schema else schema_grammar(schema)


def check_schema(schema: dict[str, Json]) -> None:
    """Raises `HostRefused` (400) with llama.cpp's sentence for a schema that the worker could not hold to."""
    problem = schema_problem(schema)
    if problem:
        raise refused_schema(problem)


def refused_schema(problem: str) -> HostRefused:
    """The error (400) for a schema with `problem`."""
    text = f"Field 'json_schema': \"json_schema\": JSON schema conversion failed:\n{problem}"
    body: Json = {"error": {"code": 400, "message": text, "type": "invalid_request_error"}}
    return HostRefused("worker", 400, _json(body))


def schema_problem(schema: dict[str, Json]) -> str:
    """What is wrong with a schema, or nothing."""
    return _Checker(schema).problem()


def _json(value: Json) -> str:
    """Compact, as llama.cpp prints it (<, > and & as they are)."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class _Checker:
    """Walks a schema within bounds; the first problem wins."""

    def __init__(self, root: dict[str, Json]) -> None:
        self._root, self._nodes = root, 0
        self._under_way: set[int] = set()  # schemas that nothing stands before yet, by identity
        self._grounded: set[int] = set()  # schemas that are known not to lead back to themselves

    def problem(self) -> str:
        return self._schema(self._root, 0)

    def _schema(self, schema: Json, depth: int) -> str:
        self._nodes += 1
        if isinstance(schema, bool):
            return ""
        if not isinstance(schema, dict):
            return f"Unrecognized schema: {_json(schema)}"
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            return "the schema is too large or nested too deeply"
        return self._type(schema) or self._bounds(schema) or self._reference(schema) or self._children(schema, depth)

    def _type(self, schema: dict[str, Json]) -> str:
        kind = schema.get("type")
        kinds = kind if isinstance(kind, list) else [kind] if kind is not None else []
        unknown = any(item not in _TYPES for item in kinds) or kind == []
        return f"Unrecognized schema: {_json(schema)}" if unknown else ""

    def _bounds(self, schema: dict[str, Json]) -> str:
        pattern, choices = schema.get("pattern"), schema.get("enum")
        if pattern is not None and (not isinstance(pattern, str) or len(pattern) > MAX_PATTERN):
            return f"pattern must be a string of at most {MAX_PATTERN} characters"
        if choices is not None and (not isinstance(choices, list) or not 0 < len(choices) <= MAX_ENUM):
            return f"enum must be a list of 1 to {MAX_ENUM} values"
        for name in _REPEATS:
            value = schema.get(name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if value is not None and not (whole and 0 <= value <= MAX_REPEAT):  # type: ignore[operator]
                return f"{name} must be a whole number from 0 to {MAX_REPEAT}"
        return ""

    def _reference(self, schema: dict[str, Json]) -> str:
        reference = schema.get("$ref")
        if reference is None:
            return ""
        if not isinstance(reference, str) or not reference.startswith("#"):
            return f"Fetching remote schemas is not supported: {reference}"
        target, missing = self._resolved(reference)
        if missing:
            return f"Error resolving ref {reference}: {missing} not in {_json(target)[:200]}"
        return "" if self._is_grounded(schema) else f"Error resolving ref {reference}: it refers to itself"

    def _resolved(self, reference: str) -> tuple[Json, str]:
        """What `reference` leads to and "", or how far it led and the name that is not there."""
        target: Json = self._root
        for part in reference.lstrip("#").strip("/").split("/") if reference.strip("#/") else ():
            name = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(target, dict) or name not in target:
                return target, name
            target = target[name]
        return target, ""

    def _is_grounded(self, schema: Json) -> bool:
        """Whether references and alternatives come to something that is not `schema` again."""
        if not isinstance(schema, dict) or id(schema) in self._grounded:
            return True
        if id(schema) in self._under_way or len(self._under_way) > MAX_CHAIN:
            return False
        self._under_way.add(id(schema))
        reference = schema.get("$ref")
        ahead = [self._resolved(reference)[0]] if isinstance(reference, str) else []
        for name in ("anyOf", "oneOf", "allOf"):
            members = schema.get(name)
            ahead += members if isinstance(members, list) else []
        grounded = all(self._is_grounded(member) for member in ahead)
        self._under_way.discard(id(schema))
        if grounded:
            self._grounded.add(id(schema))
        return grounded

    def _children(self, schema: dict[str, Json], depth: int) -> str:
        for name in _LISTS:
            members = schema.get(name)
            for member in members if isinstance(members, list) else ():
                if problem := self._schema(member, depth + 1):
                    return problem
        for name in _MAPS:
            members = schema.get(name)
            for member in members.values() if isinstance(members, dict) else ():
                if problem := self._schema(member, depth + 1):
                    return problem
        for name in _ONE:
            if name in schema and (problem := self._schema_or_list(schema[name], depth + 1)):
                return problem
        return ""

    def _schema_or_list(self, value: Json, depth: int) -> str:
        for member in value if isinstance(value, list) else [value]:
            if problem := self._schema(member, depth):
                return problem
        return ""
