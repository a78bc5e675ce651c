"""What processes that Loupe starts are given of its environment."""

from __future__ import annotations

import os

from app.config import PREFIX


def process_environment() -> dict[str, str]:
    """The environment that a child of ours may be given parts of: without Loupe's settings, which hold secrets."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}


RUNTIME_LIMITS = tuple(f"{PREFIX}RUNTIME_{name}" for name in ("MEMORY", "BATCH", "THREADS", "HANG_SECONDS", "CRASHES"))
"""Settings of the embedded runtime (docs/runtime.md) that this process only hands on to it."""


def runtime_limits(slots: int) -> dict[str, str]:
    """What our own runtime is told when it is a child: as many answers at once as the pool sends it, and its limits."""
    handed = {name: os.environ[name] for name in RUNTIME_LIMITS if name in os.environ}
    return {"OLLAMA_NUM_PARALLEL": str(slots), **handed}
