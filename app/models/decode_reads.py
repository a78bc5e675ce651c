"""How much of a model is read from memory for one token, which bounds how fast it can write. Pure.

A dense model reads every weight once a token, but for tables of which one row is looked up; a mixture of experts reads
of each layer's experts only those that are used. What is kept of the conversation so far is read as well and not
counted here: with little of it that is a few percent, and the bound stays one.
"""

from __future__ import annotations

from app.core.hosts import ModelDetail
from app.models.memory_facts import tensor_size
from app.models.memory_layers import Keys

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
LOOKED_UP = ("per_layer_token_embd.weight", "position_embd.weight", "token_types.weight")
ELSEWHERE = ("v.", "mm.", "a.", "mtmd.")  # pictures and sound: not for each token
EXPERTS = "_exps."


def decode_reads(detail: ModelDetail, size: int) -> int:
    """Bytes of weights for each token; `size` (of the file) where the host does not list its tensors, or one is of an
    unknown type."""
    tied = all(tensor.name != OUTPUT for tensor in detail.tensors)
    used, total = _used(Keys(detail.info)), 0.0
    for tensor in detail.tensors:
        if not _is_read(tensor.name, tied=tied):
            continue
        if (whole := tensor_size(tensor)) is None:
            return size
        total += whole * used if EXPERTS in tensor.name else whole
    return round(total) or size


def _is_read(name: str, *, tied: bool) -> bool:
    """The embedding is only looked up, unless it stands for the missing output matrix, which is read whole."""
    if name == EMBEDDING:
        return tied
    return name not in LOOKED_UP and not name.startswith(ELSEWHERE) and ".nextn." not in name


def _used(keys: Keys) -> float:
    """The share of a layer's experts that a token goes through."""
    every, used = keys.number("expert_count"), keys.number("expert_used_count")
    return min(1.0, used / every) if every and used else 1.0
