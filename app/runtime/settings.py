"""What `python -m app runtime` reads from its command line and environment.

Ollama's variables are read as Ollama 0.33 reads them (protocol 7.1): a bad value is warned about and counts as not set.
Our own (LOUPE_RUNTIME_…) must be right. `--store` wins over OLLAMA_MODELS.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import SettingsError
from app.runtime.go_environment import GoEnvironment
from app.wire.go_duration import FOREVER

_log = logging.getLogger(__name__)
FIVE_MINUTES = 5 * 60 * 10**9
DEFAULT_CONTEXT = 4096  # Ollama's tier for machines without a GPU
DEFAULT_MODELS = 3  # loaded at once, on a machine without a GPU
# What llama.cpp can keep a cache in (common/arg.cpp).
CACHE_TYPES = ("f16", "f32", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
DEFAULT_ORIGINS = tuple(
    f"{scheme}://{host}{port}"
    for host in ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104 - an Origin, not an address to bind
    for scheme in ("http", "https")
    for port in ("", ":*")
) + ("app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgt]?)(i?)b?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """Limits and defaults of one supervisor. Times in nanoseconds unless the name says otherwise.

    `context_length` is 0 where nothing was set. `memory` in bytes is what all models together may take, 0 for what the
    machine has. `physical_batch` caps the batch on a CPU, so that a prefill can be left within a second.
    `load_timeout_s` is how long a load may stay silent, `hang_s` how long a worker that answers may. `crash_limit`
    crashes of a model within `crash_window_s` stop its restarts (0: never). `flash` is None for what llama.cpp decides.
    `threads` compute where a request names no others; 0 for the physical cores.
    """

    store: Path
    keep_alive_ns: int = FIVE_MINUTES
    context_length: int = 0
    parallel: int = 1
    max_loaded: int = DEFAULT_MODELS
    max_queue: int = 512
    load_timeout_s: float = 300.0
    kv_type: str = "f16"
    flash: bool | None = None
    memory: int = 0
    physical_batch: int = 128
    threads: int = 0
    hang_s: float = 30.0
    crash_limit: int = 3
    crash_window_s: float = 300.0
    drain_s: float = 30.0
    no_prune: bool = False
    key: str = ""
    origins: tuple[str, ...] = DEFAULT_ORIGINS

    @property
    def default_context(self) -> int:
        return self.context_length or DEFAULT_CONTEXT


def read_settings(store: str | None, environment: Mapping[str, str]) -> RuntimeSettings:
    """Logs what is passed over. Raises `SettingsError` naming every value that is not allowed at once."""
    theirs, ours = GoEnvironment(environment), _Ours(environment)
    load_timeout = theirs.duration("OLLAMA_LOAD_TIMEOUT", FIVE_MINUTES)
    models = store or theirs.text("OLLAMA_MODELS")
    settings = RuntimeSettings(
        store=Path(models).expanduser() if models else Path.home() / ".ollama" / "models",
        keep_alive_ns=theirs.duration("OLLAMA_KEEP_ALIVE", FIVE_MINUTES),
        context_length=theirs.unsigned("OLLAMA_CONTEXT_LENGTH", 0),
        parallel=max(1, theirs.unsigned("OLLAMA_NUM_PARALLEL", 1)),
        max_loaded=theirs.unsigned("OLLAMA_MAX_LOADED_MODELS", 0) or DEFAULT_MODELS,
        max_queue=theirs.unsigned("OLLAMA_MAX_QUEUE", 512),
        load_timeout_s=float("inf") if load_timeout in (0, FOREVER) else load_timeout / 1e9,
        kv_type=ours.one_of("OLLAMA_KV_CACHE_TYPE", theirs.text("OLLAMA_KV_CACHE_TYPE").lower(), CACHE_TYPES),
        flash=theirs.flag("OLLAMA_FLASH_ATTENTION"),
        memory=ours.size("LOUPE_RUNTIME_MEMORY"),
        physical_batch=ours.whole("LOUPE_RUNTIME_BATCH", 128, 1),
        threads=ours.whole("LOUPE_RUNTIME_THREADS", 0, 0),
        hang_s=float(ours.whole("LOUPE_RUNTIME_HANG_SECONDS", 30, 1)),
        crash_limit=ours.whole("LOUPE_RUNTIME_CRASHES", 3, 0),
        drain_s=float(ours.whole("LOUPE_RUNTIME_DRAIN_SECONDS", 30, 0)),
        no_prune=bool(theirs.flag("OLLAMA_NOPRUNE")),
        key=environment.get("LOUPE_RUNTIME_KEY", ""),
        origins=(*(part for part in theirs.text("OLLAMA_ORIGINS").split(",") if part), *DEFAULT_ORIGINS),
    )
    for warning in theirs.warnings:
        _log.warning("%s", warning)
    if ours.problems:
        raise SettingsError(tuple(ours.problems))
    return settings


class _Ours:
    """Variables whose values must be right. `problems` names those that are not, with what is allowed."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.problems: list[str] = []

    def whole(self, name: str, default: int, lowest: int) -> int:
        text = self._variables.get(name, "").strip()
        if not text:
            return default
        if text.isascii() and text.isdigit() and lowest <= int(text) < 2**63:
            return int(text)
        self.problems.append(f"{name}={text!r}: a whole number from {lowest} up is allowed")
        return default

    def size(self, name: str) -> int:
        """Bytes; 0 where it is not set."""
        text = self._variables.get(name, "").strip()
        found = _SIZE.fullmatch(text)
        if not text:
            return 0
        if found is not None:
            number, unit, binary = found.groups()
            base = 1000 if unit and not binary and text[-1] in "bB" else 1024  # as Loupe's other settings
            if (value := int(float(number) * base ** " kmgt".index(unit.lower() or " "))) > 0:
                return value
        self.problems.append(f"{name}={text!r}: a size is allowed, like 6GiB, 512MiB or a number of bytes")
        return 0

    def one_of(self, name: str, text: str, allowed: tuple[str, ...]) -> str:
        if text and text not in allowed:
            self.problems.append(f"{name}={text!r}: one of {', '.join(allowed)} is allowed")
        return text if text in allowed else allowed[0]


def usable_threads() -> int:
    """How many threads decode well: the physical cores this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    import psutil  # only here: the rest of the module is used where psutil need not be

    logical, physical = os.cpu_count() or 1, psutil.cpu_count(logical=False) or 1
    return max(1, allowed * physical // logical) if physical < logical else max(1, allowed)
