"""What `python -m app runtime` reads from its command line and environment.

The variables are Ollama's own, read as Ollama 0.33 reads them (protocol 7.1); `--store` wins over OLLAMA_MODELS.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import BadRequest, SettingsError
from app.wire.go_duration import FOREVER, keep_alive_ns

FIVE_MINUTES = 5 * 60 * 10**9
DEFAULT_CONTEXT = 4096  # Ollama's tier for machines without a GPU
DEFAULT_ORIGINS = tuple(
    f"{scheme}://{host}{port}"
    for host in ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104 - an Origin, not an address to bind
    for scheme in ("http", "https")
    for port in ("", ":*")
) + ("app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*")


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """Limits and defaults of one supervisor. Times in nanoseconds unless the name says otherwise.

    `context_length` is 0 where nothing was set; `physical_batch` caps the batch on a CPU, so that a prefill can be
    left within a second; `load_timeout_s` is how long a load may stay silent.
    """

    store: Path
    keep_alive_ns: int = FIVE_MINUTES
    context_length: int = 0
    parallel: int = 1
    max_loaded: int = 3
    max_queue: int = 512
    load_timeout_s: float = 300.0
    physical_batch: int = 128
    drain_s: float = 30.0
    no_prune: bool = False
    key: str = ""
    origins: tuple[str, ...] = DEFAULT_ORIGINS

    @property
    def default_context(self) -> int:
        return self.context_length or DEFAULT_CONTEXT


def read_settings(store: str | None, environment: Mapping[str, str]) -> RuntimeSettings:
    """Raises `SettingsError` naming every bad value at once."""
    problems: list[str] = []

    def whole(name: str, default: int, lowest: int) -> int:
        text = environment.get(name, "").strip()
        if not text:
            return default
        try:
            value = int(text)
        except ValueError:
            value = lowest - 1
        if value < lowest:
            problems.append(f"{name}={text!r}: a whole number from {lowest} up is allowed")
        return value

    def duration(name: str, default: int) -> int:
        text = environment.get(name, "").strip()
        if not text:
            return default
        try:
            value = keep_alive_ns(int(text) if text.lstrip("-").isdigit() else text)
        except BadRequest as error:
            problems.append(f"{name}={text!r}: {error.message}; 10m, 1h30m or a number of seconds is allowed")
            return default
        return default if value is None else value

    load_timeout = duration("OLLAMA_LOAD_TIMEOUT", FIVE_MINUTES)
    settings = RuntimeSettings(
        store=Path(store or environment.get("OLLAMA_MODELS") or Path.home() / ".ollama" / "models").expanduser(),
        keep_alive_ns=duration("OLLAMA_KEEP_ALIVE", FIVE_MINUTES),
        context_length=whole("OLLAMA_CONTEXT_LENGTH", 0, 0),
        parallel=whole("OLLAMA_NUM_PARALLEL", 1, 1),
        max_loaded=whole("OLLAMA_MAX_LOADED_MODELS", 0, 0) or 3,
        max_queue=whole("OLLAMA_MAX_QUEUE", 512, 0),
        load_timeout_s=float("inf") if load_timeout in (0, FOREVER) else load_timeout / 1e9,
        physical_batch=whole("LOUPE_RUNTIME_BATCH", 128, 1),
        drain_s=float(whole("LOUPE_RUNTIME_DRAIN_SECONDS", 30, 0)),
        no_prune=environment.get("OLLAMA_NOPRUNE", "").lower() in ("1", "true", "t"),
        key=environment.get("LOUPE_RUNTIME_KEY", ""),
        origins=(*_listed(environment.get("OLLAMA_ORIGINS", "")), *DEFAULT_ORIGINS),
    )
    if problems:
        raise SettingsError(tuple(problems))
    return settings


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


def usable_threads() -> int:
    """How many threads decode well: the physical cores this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    import psutil  # only here: the rest of the module is used where psutil need not be

    logical, physical = os.cpu_count() or 1, psutil.cpu_count(logical=False) or 1
    return max(1, allowed * physical // logical) if physical < logical else max(1, allowed)
