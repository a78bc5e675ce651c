"""How an embedded runtime is set up: what can be measured against each other, applied, and kept. Standard library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from app.core.errors import BadRequest
from app.core.generation import Json

KV_TYPES = ("f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
MOST_SLOTS, MOST_THREADS, MOST_BATCH = 64, 1024, 512
LEAST_BATCH = 8
PLAIN_KV = KV_TYPES[0]
# What carries each field to a runtime, and to Ollama itself, which knows three of them.
VARIABLES: Mapping[str, str] = {
    "slots": "OLLAMA_NUM_PARALLEL", "threads": "LOUPE_RUNTIME_THREADS", "batch": "LOUPE_RUNTIME_BATCH",
    "flash": "OLLAMA_FLASH_ATTENTION", "kv_type": "OLLAMA_KV_CACHE_TYPE",
}  # fmt: skip
PER_REQUEST = {"threads": "num_thread", "batch": "num_batch"}  # options of a request, on any host


@dataclass(frozen=True, slots=True)
class RuntimeSetup:
    """None (or "") leaves a part as it is. `slots` answers at once, `threads` that compute, `batch` tokens of prompts
    computed at once, `flash` attention on or off, `kv_type` what the context is kept in."""

    slots: int | None = None
    threads: int | None = None
    batch: int | None = None
    flash: bool | None = None
    kv_type: str = ""

    def checked(self) -> RuntimeSetup:
        """Itself. Raises `BadRequest` with what is allowed."""
        for name, value, least, most in (
            ("slots", self.slots, 1, MOST_SLOTS), ("threads", self.threads, 1, MOST_THREADS),
            ("batch", self.batch, LEAST_BATCH, MOST_BATCH),
        ):  # fmt: skip
            if value is not None and not least <= value <= most:
                raise BadRequest(f"{name} is a whole number from {least} to {most}", name)
        if self.kv_type and self.kv_type not in KV_TYPES:
            raise BadRequest(f"kv_type is one of {', '.join(KV_TYPES)}", "kv_type")
        if self.flash is False and self.kv_type not in ("", PLAIN_KV):
            raise BadRequest(f"a KV cache in {self.kv_type} needs flash attention; leave that on", "flash")
        return self

    @property
    def changes(self) -> dict[str, int | bool | str]:
        """The parts that are named."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in named.items() if value not in (None, "")}

    @property
    def environment(self) -> dict[str, str]:
        """What a runtime is told."""
        return {
            VARIABLES[name]: str(int(value)) if isinstance(value, bool) else str(value)
            for name, value in self.changes.items()
        }

    @property
    def options(self) -> dict[str, Json]:
        """What can be told to any host with each request."""
        return {PER_REQUEST[name]: value for name, value in self.changes.items() if name in PER_REQUEST}

    def under(self, other: RuntimeSetup) -> RuntimeSetup:
        """Both, the other one's parts first."""
        return replace(self, **other.changes)  # type: ignore[arg-type]  # its own fields

    def without(self, other: RuntimeSetup) -> RuntimeSetup:
        """What differs from the other one."""
        kept = other.changes
        return RuntimeSetup(**{name: value for name, value in self.changes.items() if kept.get(name) != value})  # type: ignore[arg-type]

    @property
    def told(self) -> str:
        """In words: 4 slots, batch 256, flash attention on, KV cache q8_0."""
        words = {
            "slots": "1 slot" if self.slots == 1 else f"{self.slots} slots",
            "threads": "1 thread" if self.threads == 1 else f"{self.threads} threads",
            "batch": f"batch {self.batch}",
            "flash": f"flash attention {'on' if self.flash else 'off'}",
            "kv_type": f"KV cache {self.kv_type}",
        }
        return ", ".join(words[name] for name in self.changes) or "as it is"
