"""How much memory a model takes once it is loaded, from its metadata alone. Pure.

    total = weights + copies + kv + state + compute + output        (bytes)

Weights, cache, state and output follow from llama.cpp's own arithmetic and are exact where the layers are known. The
compute buffer is what its allocator finds; the formula here was fitted to measurements of 18 shapes in 13 architectures
(flash attention, which is the automatic choice on a CPU), and came within 0.1 % for 25 plain shapes it had not seen.
`benchmarks/memory_fit.py` measures it again.

Not counted: a projector for images, the runtime itself (some 50 MiB resident), and what a GPU driver takes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from app.models.ggml_types import TYPE_BY_NAME
from app.models.memory_architectures import MEASURED, MODELLED
from app.models.memory_facts import ModelFacts, facts_of_detail, facts_of_file

CELLS = 256  # llama.cpp rounds contexts and windows up to this many cells
# Formats that x86-64 with AVX2 keeps a second time for its kernels when the file is mapped (without a mapping the
# rearranged matrices take the place of the others).
COPIED_WHEN_MAPPED = frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"})
ELSEWHERE = 0.3 * 2**30, 0.05  # bytes, or share of the total: the error to expect of another host's build

_F32 = 4
_MASK = 2  # bytes: flash attention takes a mask of 16-bit numbers, tokens by cells
_INDICES = 40  # bytes a token: its number, position, and places in the cache
_STREAM = 5  # widths of the residual stream that are alive at the worst moment
_GATED = 3  # widths of the feed-forward network: gate, up, and the product
_ROUNDING = 1 << 18  # bytes: alignment of tensors, and the log's two decimals
_ERROR_MEASURED, _ERROR_OTHER = 0.1, 0.5  # of the compute buffer
_ERROR_LAYERS = 0.5  # of the cache, where the architecture is not known


@dataclass(frozen=True, slots=True)
class MemoryPrediction:
    """Bytes by part; a part that cannot be told is None, and then so is the total.

    `copies` are matrices kept twice, `uncertainty` is what `total` may be off to either side, `notes` say what is
    unknown or assumed. `checkpoint` is not in the total: what remembering one point of one conversation takes later
    (models with windows or states cannot go back without).
    """

    weights: int | None
    copies: int
    kv: int | None
    state: int | None
    compute: int | None
    output: int | None
    uncertainty: int
    checkpoint: int = 0
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int | None:
        parts = self._parts
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    @property
    def at_least(self) -> int:
        """The parts that are known."""
        return sum(part for part in self._parts if part is not None)

    @property
    def uncertainty_elsewhere(self) -> int:
        """The same for a host whose build or device is not known to us."""
        least, share = ELSEWHERE
        return max(self.uncertainty, round(least), round(share * self.at_least))

    @property
    def _parts(self) -> tuple[int | None, ...]:
        return self.weights, self.copies, self.kv, self.state, self.compute, self.output


@dataclass(frozen=True, slots=True)
class _Load:
    """The lengths that a load comes down to: cells of full and of sliding layers in all, and seen by one token."""

    slots: int
    batch: int
    cells: int
    near_cells: int
    seen: int
    near_seen: int


def predict(
    facts: ModelFacts, *, context: int, slots: int = 1, batch: int = 512, kv_type: str = "f16",
    kv_unified: bool = False, mapped: bool = False,
) -> MemoryPrediction:  # fmt: skip
    """What loading takes with `context` tokens for each of `slots`, and a physical batch of `batch` tokens.

    `kv_unified`: the slots share one cache. `mapped`: the file is mapped rather than read.
    Raises ValueError for numbers below 1 and for an unknown `kv_type`.
    """
    if min(context, slots, batch) < 1:
        raise ValueError("context, slots and batch are at least 1")
    load = _load(facts.window, context, slots, batch, kv_unified)
    kv = _kv(facts, load, kv_type)
    compute = _compute(facts, load)
    state = None if facts.layers is None else slots * sum(_F32 * layer.state for layer in facts.layers)
    copies = sum(facts.copied.get(kind, 0) for kind in COPIED_WHEN_MAPPED) if mapped else 0
    notes = facts.unknown
    if kv is None and facts.layers is not None:
        notes = (*notes, f"cache: rows of this model cannot be kept as {kv_type}")
    return MemoryPrediction(
        weights=facts.weights,
        copies=copies,
        kv=kv,
        state=state,
        compute=compute,
        output=None if facts.vocabulary is None else _F32 * facts.vocabulary * slots,
        uncertainty=_uncertainty(facts, kv, compute, copies),
        checkpoint=_checkpoint(facts, kv_type),
        notes=notes,
    )


def fits(prediction: MemoryPrediction, free: int, *, margin: int = 0) -> bool | None:
    """Whether it fits into `free` bytes with its uncertainty and `margin` to spare.

    None: what is known fits, but something is not known.
    """
    room = free - margin
    if prediction.at_least + prediction.uncertainty > room:
        return False
    return None if prediction.total is None else True


def largest_context(
    facts: ModelFacts, budget: int, *, slots: int = 1, batch: int = 512, kv_type: str = "f16",
    kv_unified: bool = False, mapped: bool = False, limit: int | None = None,
) -> int | None:  # fmt: skip
    """The longest context for each slot, in steps of 256 tokens, that fits into `budget` bytes with its uncertainty.

    At most `limit`, or else the context the model was made for. 0 where not even the shortest fits, None where that
    cannot be told.
    """
    longest = limit or facts.context_length
    if longest is None:
        return None

    def answer(context: int) -> bool | None:
        made = predict(
            facts, context=context, slots=slots, batch=batch, kv_type=kv_type, kv_unified=kv_unified, mapped=mapped
        )
        return fits(made, budget)

    if (shortest := answer(min(CELLS, longest))) is not True:
        return 0 if shortest is False else None
    if answer(longest):
        return longest
    good, bad = 1, -(-longest // CELLS)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if answer(middle * CELLS) else (good, middle)
    return good * CELLS


def _load(window: int, context: int, slots: int, batch: int, unified: bool) -> _Load:
    """llama-context and llama-kv-cache-iswa: each slot has cells of its own unless they share one cache."""
    seen = _padded(context * slots) if unified else _padded(context)
    batch = min(batch, _padded(context * slots))
    near = min(seen, _padded(window * (slots if unified else 1) + batch)) if window else 0
    streams = 1 if unified else slots
    return _Load(slots, batch, seen * streams, near * streams, seen, near)


def _padded(cells: int) -> int:
    return -(-cells // CELLS) * CELLS


def _kv(facts: ModelFacts, load: _Load, kv_type: str) -> int | None:
    if facts.layers is None:
        return None
    total = 0
    for layer in facts.layers:
        row = _row(kv_type, layer.key, layer.value)
        if row is None:
            return None
        total += row * (load.near_cells if layer.sliding else load.cells)
    return total


def _row(kv_type: str, *widths: int) -> int | None:
    kind = TYPE_BY_NAME.get(kv_type.upper())
    if kind is None:
        raise ValueError(f"{kv_type} is not a type that a cache can have")
    return None if any(width % kind.block for width in widths) else sum(kind.row_bytes(width) for width in widths)


def _checkpoint(facts: ModelFacts, kv_type: str) -> int:
    """A window's cells and the state of one slot; 0 for models that can go back without."""
    layers = facts.layers or ()
    cells = facts.window * sum(_row(kv_type, layer.key, layer.value) or 0 for layer in layers if layer.sliding)
    return cells + sum(_F32 * layer.state for layer in layers)


def _compute(facts: ModelFacts, load: _Load) -> int | None:
    """The largest set of intermediate results alive at one moment of a full batch, beside the inputs.

    Inputs and masks live throughout. At the worst moment come five copies of the residual stream and either the
    feed-forward network (three times its width; with experts for each one used), the attention's rows, those of the
    state space, or the logits of the tokens that are sampled.
    """
    scratch, layers = facts.scratch, facts.layers
    if scratch is None or layers is None or facts.vocabulary is None:
        return None
    width = scratch.embedding
    experts = scratch.experts * _GATED * scratch.expert_width
    if width > 2 * scratch.expert_width:  # what the experts answer does not fit where gate and up were
        experts += scratch.experts * width
    widest = max(_GATED * scratch.feed_forward, experts, scratch.attention)
    stream = _STREAM + (1 if scratch.hybrid else 0)
    state = load.slots * max((layer.state for layer in layers), default=0) if scratch.recurrent else 0
    moment = max(load.batch * widest, load.batch * scratch.recurrent + state, load.slots * facts.vocabulary)
    cached = any(layer.key for layer in layers)
    masks = _MASK * ((load.seen if cached else 0) + load.near_seen)
    return load.batch * (_F32 * stream * width + masks + _INDICES) + _F32 * moment


def _uncertainty(facts: ModelFacts, kv: int | None, compute: int | None, copies: int) -> int:
    share = _ERROR_MEASURED if facts.architecture in MEASURED else _ERROR_OTHER
    parts: Iterable[float] = (
        share * (compute or 0),
        0.1 * copies,
        0.0 if facts.architecture in MODELLED else _ERROR_LAYERS * (kv or 0),
        0.0 if facts.weights_exact else 0.05 * (facts.weights or 0),
    )
    return _ROUNDING + round(sum(parts))


__all__ = [
    "COPIED_WHEN_MAPPED",
    "MemoryPrediction",
    "ModelFacts",
    "facts_of_detail",
    "facts_of_file",
    "fits",
    "largest_context",
    "predict",
]
