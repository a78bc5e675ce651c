"""What is set, as a person wants to see it: every setting with who set it, and what of the file waits for a restart.

Values are as `config_report` shows them: no secret, and no part of one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from app.config import Settings, settings_file
from app.config_children import RUNTIME_LIMITS
from app.config_report import LoadedSettings, allowed_words, default_words, load_settings, shown, variable_of
from app.core.errors import SettingsError

GROUPS = {
    "bind": "Where Loupe is",
    "ollama_host": "Model hosts",
    "token": "Who may come in",
    "cache_bytes": "Cache, queue, answers",
    "database_url": "Stores",
    "alert_webhook": "Alerts",
}
"""The heads of the list: each stands before the setting of that name."""
RUNTIME_GROUP = "Built-in runtime"
_RUNTIME_HELP = {
    "LOUPE_RUNTIME_MEMORY": ("what is free", "What all its models together may take, like 6GiB."),
    "LOUPE_RUNTIME_THREADS": ("physical cores", "Threads that compute, where a request does not say num_thread."),
    "LOUPE_RUNTIME_BATCH": ("128", "Largest physical batch, whatever num_batch says."),
    "LOUPE_RUNTIME_HANG_SECONDS": ("30", "A worker that does not answer for so long under a request is ended."),
    "LOUPE_RUNTIME_CRASHES": ("3", "So many crashes of a model within five minutes stop its restarts; 0 never."),
}
_AFTER = {
    "data": "What is stored does not move along.",
    "database_url": "What is stored does not move along.",
    "hosts": "Hosts can also be added without a restart: on Hosts, here.",
    "port": "Clients and open pages have to follow.",
    "token": "Every browser that signed in with it has to sign in again.",
}


class Origin(StrEnum):
    """Who set it."""

    DEFAULT = "default"
    ENVIRONMENT = "environment"
    FILE = "file"
    COMMAND_LINE = "command line"


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting. `next_value` is what the next start will find where that is something else; `overruled`: the file
    sets it too, and is not heard; `after`: what else a change brings."""

    variable: str
    group: str
    value: str
    origin: Origin
    default: str
    allowed: str
    help: str
    next_value: str | None = None
    overruled: bool = False
    after: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """`file` is where the settings file is or would be; `problems` are what would stop the next start; `warnings` what
    looks like a mistake."""

    rows: tuple[SettingRow, ...]
    file: Path
    file_exists: bool
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def waiting(self) -> tuple[SettingRow, ...]:
        """What a restart would change."""
        return tuple(row for row in self.rows if row.next_value is not None)


def picture(loaded: LoadedSettings) -> Picture:
    """Reads the settings file again, to tell what a restart would change."""
    path, warnings = settings_file(), loaded.warnings
    problems: tuple[str, ...] = ()
    coming: LoadedSettings | None = None
    try:
        coming = load_settings(**loaded.overrides)
        warnings = coming.warnings
    except SettingsError as error:
        problems = error.problems
    rows = (*_rows(loaded, coming), *_runtime_rows())
    return Picture(rows, path, path.is_file(), problems, warnings)


def _rows(loaded: LoadedSettings, coming: LoadedSettings | None) -> Iterator[SettingRow]:
    group = ""
    for name, field in Settings.model_fields.items():
        group = GROUPS.get(name, group)
        origin = _origin(name, loaded)
        yield SettingRow(
            variable=variable_of(name),
            group=group,
            value=shown(name, getattr(loaded.settings, name)),
            origin=origin,
            default=default_words(name, field),
            allowed=allowed_words(name),
            help=str(field.description),
            next_value=_coming(name, loaded, coming) if coming else None,
            overruled=name in (coming or loaded).written and origin in (Origin.ENVIRONMENT, Origin.COMMAND_LINE),
            after=_AFTER.get(name, ""),
        )


def _coming(name: str, loaded: LoadedSettings, coming: LoadedSettings) -> str | None:
    """Told even where both look alike, as two secrets do."""
    new = getattr(coming.settings, name)
    return None if new == getattr(loaded.settings, name) else shown(name, new)


def _origin(name: str, loaded: LoadedSettings) -> Origin:
    source = loaded.sources.get(name, "default")
    if source in (Origin.DEFAULT, Origin.COMMAND_LINE):
        return Origin(source)
    return Origin.ENVIRONMENT if source.upper() == variable_of(name) else Origin.FILE


def _runtime_rows() -> Iterator[SettingRow]:
    for variable in RUNTIME_LIMITS:
        default, words = _RUNTIME_HELP[variable]
        value = os.environ.get(variable, "")
        origin = Origin.ENVIRONMENT if value else Origin.DEFAULT
        yield SettingRow(variable, RUNTIME_GROUP, value or default, origin, default, "", words)
