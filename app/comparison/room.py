"""How much memory models may take on a host: its GPUs' or the machine's, where the host runs on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from app.core.hardware import Gpus
from app.core.hosts import HostAddress, LoadedModel
from app.models.wishes import UNLIMITED, memory_budget


@dataclass(frozen=True, slots=True)
class Room:
    """`memory`: bytes of this machine's memory that are free now; `gpus`: what their driver tells now."""

    memory: Callable[[], int]
    gpus: Callable[[], Gpus]

    def budget(self, address: HostAddress, loaded: Iterable[LoadedModel] = ()) -> int:
        """Bytes a model may take there, so that all of it runs on the GPU where the host uses one. `loaded`: what would
        be given back for it. Of another machine nothing is known: `UNLIMITED` there."""
        if not address.here:
            return UNLIMITED
        held = tuple(loaded)
        on_gpu = sum(model.size_vram for model in held)
        free_gpu = None if address.embedded or (held and not on_gpu) else _free(self.gpus())
        return memory_budget(
            self.memory() + sum(model.size for model in held) - on_gpu, None if free_gpu is None else free_gpu + on_gpu
        )


def _free(gpus: Gpus) -> int | None:
    """Bytes free on all together: hosts spread a model over them. None where there is none, or one does not tell."""
    free = 0
    for gpu in gpus.devices:
        if gpu.memory_total is None or gpu.memory_used is None:
            return None
        free += gpu.memory_total - gpu.memory_used
    return free if gpus.devices else None
