"""Whether a model fits into memory beside those that are loaded: what it will take, and what there is.

What it will take is predicted from its file (app/models/memory_fit); what is there is the machine's free memory, a
control group's, or less where a limit is set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from app.core.errors import ModelTooLarge
from app.models.gguf_file import GgufFile
from app.models.machine_memory import MachineMemory, machine_memory
from app.models.memory_fit import facts_of_file, largest_context, predict
from app.runtime.worker_process import WorkerConfig

PROCESS = 64 << 20  # a worker without its model: measured 46 to 50 MiB resident
_SHARE_OF_FREE = 0.9  # the rest of what is free is left to everybody else on the machine
_SHORT_CONTEXT = 2048  # tokens a slot; advice goes no lower
# A worker may have a quarter more than was predicted, and for what is only reserved or comes and goes with requests:
# code and heap, and for each thread a stack and an arena of its own. Measured: 0.5 to 0.7 GiB with 15 to 18 threads.
_ROOM_TO_GROW, _HEAP, _THREAD = 1.25, 2 << 30, 72 << 20
_SERVER_THREADS = 10  # beside those that compute, and one for each slot


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes a model will take: `least` surely, `wanted` with everything that may come on top.

    `address_space` is what its process may have, 0 where that cannot be told.
    """

    least: int
    wanted: int
    address_space: int = 0


class MemoryBudget:
    """`limit` in bytes is what all models together may take, 0 for no limit but the machine's."""

    def __init__(self, limit: int = 0, reading: Callable[[], MachineMemory] = machine_memory) -> None:
        self._limit, self._reading = limit, reading

    def need(self, gguf: GgufFile | None, config: WorkerConfig) -> Need:
        """A model whose file cannot be read is given a chance: its worker will say what is wrong with it."""
        if gguf is None:
            return Need(0, 0)
        facts = facts_of_file(gguf)
        made = predict(
            facts, context=config.num_ctx, slots=config.parallel, batch=config.batch, kv_type=config.kv_type,
            mapped=config.mmap,
        )  # fmt: skip
        remembered = made.checkpoint * config.checkpoints * config.parallel
        attention = _without_flash(gguf, config) if config.flash is False else 0
        most = made.at_least + made.uncertainty + attention + remembered
        # Of a mapped file the kernel can drop pages and read them again: slow, but nothing swaps.
        surely = made.at_least - made.uncertainty - ((made.weights or 0) if config.mmap else 0)
        threads = config.threads + config.parallel + _SERVER_THREADS
        space = round(_ROOM_TO_GROW * most) + _HEAP + threads * _THREAD
        return Need(max(0, surely), most + PROCESS, space if made.total is not None else 0)

    def fits(self, need: Need, used: int) -> bool:
        """Whether there is room beside loaded models that take `used` bytes."""
        now = self._reading()
        room = min(round(_SHARE_OF_FREE * now.free), now.total - used)
        return need.wanted <= (min(room, self._limit - used) if self._limit else room)

    def check_alone(self, model: str, gguf: GgufFile | None, config: WorkerConfig, need: Need, used: int) -> None:
        """Raises `ModelTooLarge` for a model that surely does not fit, even were all that take `used` bytes gone."""
        now = self._reading()
        there = min(now.total, now.free + used, self._limit or now.total)
        if need.least > there:
            raise ModelTooLarge(model, need.least, there, self._advice(gguf, config, there))

    def _advice(self, gguf: GgufFile | None, config: WorkerConfig, there: int) -> str:
        longest = None
        if gguf is not None:
            longest = largest_context(
                facts_of_file(gguf), there - PROCESS, slots=config.parallel, batch=config.batch,
                kv_type=config.kv_type, mapped=config.mmap, limit=config.num_ctx,
            )  # fmt: skip
        limited = ", or raise LOUPE_RUNTIME_MEMORY" if self._limit and there == self._limit else ""
        if longest and longest >= min(_SHORT_CONTEXT, config.num_ctx // 2):
            return f"a context of {longest} tokens (num_ctx) fits; set that, or take a smaller quantization{limited}"
        return f"take a smaller quantization or a smaller model, or free memory on this machine{limited}"


def _without_flash(gguf: GgufFile, config: WorkerConfig) -> int:
    """What the prediction leaves out without flash attention: the scores of a batch against the whole context."""
    return 4 * config.batch * config.num_ctx * (gguf.own_number("attention.head_count") or 1)
