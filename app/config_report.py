"""Reading the settings and talking about them: every bad value at once, the effective table, docs/settings.md."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from app.config import FILE_VARIABLE, PREFIX, Settings, settings_file
from app.config_children import RUNTIME_LIMITS
from app.core.errors import SettingsError
from app.core.hosts import HostAddress

SECRETS = frozenset(
    {"token", "otlp_headers", "hosts", "database_url", "alert_webhook", "alert_webhook_secret"}
)  # values, or parts of them, that are never printed
_RESERVED = frozenset({FILE_VARIABLE, "LOUPE_RUNTIME_KEY", *RUNTIME_LIMITS})  # known, not the application's


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The settings, where each one comes from (variable name or file), and what looks like a mistake.

    `overrides` are those of the command line by field name, `written` the fields that the file sets."""

    settings: Settings
    sources: dict[str, str]
    warnings: tuple[str, ...]
    overrides: dict[str, Any] = field(default_factory=dict)
    written: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of effective settings."""

    variable: str
    value: str
    source: str


def load_settings(**overrides: Any) -> LoadedSettings:
    """Read the environment and the file. `overrides` are command-line values by field name; they win.

    Raises SettingsError that lists every bad setting in a sentence of its own.
    """
    path = settings_file()
    written = _read_file(path)
    try:
        settings = Settings(**overrides)
    except ValidationError as problems:
        raise SettingsError(tuple(_sentences(problems, written, path, overrides))) from None
    sources = {name: _source(name, written, path, overrides) for name in Settings.model_fields}
    in_file = frozenset(name for name in Settings.model_fields if name in written or variable_of(name) in written)
    return LoadedSettings(settings, sources, tuple(_warnings(settings, written, path)), overrides, in_file)


def _read_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        if os.environ.get(FILE_VARIABLE):
            raise SettingsError((f"{FILE_VARIABLE} names {path}, which does not exist.",))
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as problem:
        raise SettingsError((f"{path} cannot be read as TOML: {problem}",)) from None


def variable_of(name: str) -> str:
    """The environment variable of a field."""
    alias = Settings.model_fields[name].validation_alias
    return alias if isinstance(alias, str) else PREFIX + name.upper()


def _given_by_environment(name: str) -> str | None:
    """pydantic-settings matches names without regard to case and ignores empty values."""
    wanted = variable_of(name).lower()
    return next((variable for variable, value in os.environ.items() if variable.lower() == wanted and value), None)


def _source(name: str, written: dict[str, Any], path: Path, overrides: dict[str, Any]) -> str:
    if name in overrides:
        return "command line"
    if variable := _given_by_environment(name):
        return variable
    return str(path) if name in written or variable_of(name) in written else "default"


def _sentences(
    problems: ValidationError, written: dict[str, Any], path: Path, overrides: dict[str, Any]
) -> Iterator[str]:
    fields_by_key = {key: name for name in Settings.model_fields for key in (name, variable_of(name))}
    for problem in problems.errors(include_url=False):
        name = fields_by_key.get(str(problem["loc"][0])) if problem["loc"] else None
        own = problem["type"] == "value_error"  # pydantic's other messages only repeat what is allowed
        reason = str(problem["msg"]).removeprefix("Value error, ")
        if name is None:
            yield reason + "."
            continue
        origin = _source(name, written, path, overrides)
        where = f" (from {origin})" if origin not in (variable_of(name), "default") else ""
        given = "the value given" if name in SECRETS else repr(problem["input"])
        why = f": {reason}" if own else ""
        yield f"{variable_of(name)}: {given} is not allowed{where}{why}. Allowed: {allowed_words(name)}."


def _warnings(settings: Settings, written: dict[str, Any], path: Path) -> Iterator[str]:
    known = {variable_of(name) for name in Settings.model_fields} | _RESERVED
    for variable in os.environ:
        if variable.upper().startswith(PREFIX) and variable.upper() not in known:
            yield f"{variable} is not a setting and is ignored{_did_you_mean(variable.upper(), known)}."
    keys = set(Settings.model_fields) | {"OLLAMA_HOST"}
    for key in written:
        if key not in keys:
            yield f"{key} in {path} is not a setting and is ignored{_did_you_mean(key, keys)}."
    if settings.hosts and settings.ollama_host:
        yield "OLLAMA_HOST is ignored, because LOUPE_HOSTS is set."


def _did_you_mean(word: str, known: set[str]) -> str:
    near = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}" if near else ""


def effective_table(loaded: LoadedSettings) -> tuple[Row, ...]:
    """What is in force, secrets masked."""
    return tuple(
        Row(variable_of(name), shown(name, getattr(loaded.settings, name)), loaded.sources.get(name, "default"))
        for name in Settings.model_fields
    )


def shown(name: str, value: object) -> str:
    """A value in words, without anything secret."""
    if value is None or value == ():
        return "(not set)"
    if isinstance(value, SecretStr):
        return "(set, not shown)"
    if isinstance(value, bool):
        return "on" if value else "off"
    if name == "database_url":
        return _without_password(str(value))
    if isinstance(value, tuple):
        return ", ".join(_host(word) if isinstance(word, HostAddress) else str(word) for word in value)
    return size(value) if isinstance(value, int) and name.endswith(("_bytes", "max_body", "max_blob")) else str(value)


def _host(host: HostAddress) -> str:
    return f"{host.name}={host.url};slots={host.slots}" + (";key=(not shown)" if host.key else "")


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    scheme, separator, user = head.partition("://")
    return f"{scheme}{separator}{user.partition(':')[0]}:(not shown){at}{tail}" if at and ":" in user else url


def size(value: int) -> str:
    """Bytes in the largest unit that divides them."""
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if value and value % (1 << power) == 0:
            return f"{value >> power} {unit}"
    return str(value)


def allowed_words(name: str) -> str:
    """What the setting of that field accepts."""
    extra = Settings.model_fields[name].json_schema_extra
    return str(extra.get("allowed", "")) if isinstance(extra, dict) else ""


def default_words(name: str, field: FieldInfo) -> str:
    """What holds where nobody sets it."""
    return "the platform's data folder" if name == "data" else shown(name, field.default)


def markdown_table() -> str:
    """docs/settings.md, whole."""
    lines = [
        "# Settings",
        "",
        "Loupe reads its settings from the environment and from an optional TOML file: `$LOUPE_CONFIG`, or "
        "`loupe.toml` in the data folder. The environment wins. In the file a setting is named without `LOUPE_` and "
        "in lower case (`port = 8501`; `OLLAMA_HOST` is `ollama_host`). `python -m app settings` prints what is in "
        "force and where it comes from, and so does the page: Settings, *What is set* (`/settings`), which also says "
        "what a restart would change. A value that is not allowed stops the start; a `LOUPE_` name that is no "
        "setting is warned about.",
        "",
        "This page is generated: `python -m app settings --markdown > docs/settings.md`.",
        "",
        "| setting | default | allowed | what it does |",
        "| --- | --- | --- | --- |",
    ]
    for name, known in Settings.model_fields.items():
        cells = (f"`{variable_of(name)}`", default_words(name, known), allowed_words(name), str(known.description))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
