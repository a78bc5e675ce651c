"""What a model will take in memory, as a comparison shows it: by parts, with its error, and for other contexts."""

from __future__ import annotations

from app.core.hosts import HostAddress, ModelDetail
from app.core.measures import Memory, MemoryPoint
from app.models.memory_facts import ModelFacts
from app.models.memory_fit import MemoryPrediction, facts_of_detail, predict

CONTEXTS = (2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144)  # tokens
KV_TYPES = ("f16", "q8_0", "q4_0")


def memory_of(
    detail: ModelDetail, size: int | None = None, *, context: int, slots: int = 1, kv_type: str = "f16",
    batch: int = 512, own: bool = False,
) -> Memory:  # fmt: skip
    """The prediction from `/api/show`; `size` (of `/api/tags`, bytes) stands in for tensors that it does not list.

    `own`: for our embedded runtime, whose build is known. Another host may be off by more.
    What cannot be told leaves `predicted` None, and `notes` say why. Raises ValueError for a `kv_type` that is none.
    """
    facts = facts_of_detail(detail, size)
    made = predict(facts, context=context, slots=slots, kv_type=kv_type, batch=batch)
    return Memory(
        context=context,
        predicted=made.total,
        band=made.uncertainty if own else made.uncertainty_elsewhere,
        parts=_parts(made),
        points=_points(facts, context, slots, kv_type, batch),
        notes=made.notes,
    )


def memory_at(address: HostAddress, detail: ModelDetail, size: int | None, context: int) -> Memory:
    """The same, as that host is set up."""
    return memory_of(
        detail, size, context=context, slots=address.slots, kv_type=address.kv_type, own=address.embedded
    )  # fmt: skip


def _parts(made: MemoryPrediction) -> dict[str, int]:
    """The parts that are known and take something."""
    parts = {
        "weights": made.weights, "copies": made.copies, "kv": made.kv, "state": made.state, "compute": made.compute,
        "output": made.output,
    }  # fmt: skip
    return {name: size for name, size in parts.items() if size}


def _points(facts: ModelFacts, context: int, slots: int, kv_type: str, batch: int) -> tuple[MemoryPoint, ...]:
    """Up to the longest context the model was made for."""
    longest = facts.context_length or CONTEXTS[-1]
    contexts = sorted({context, *(one for one in CONTEXTS if one < longest), longest})
    found = []
    for kind in dict.fromkeys((kv_type, *KV_TYPES)):
        for one in contexts:
            total = predict(facts, context=one, slots=slots, kv_type=kind, batch=batch).total
            if total is not None:
                found.append(MemoryPoint(one, kind, total))
    return tuple(found)
