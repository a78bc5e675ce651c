"""In which order the panes of a round are asked: together where slots and memory allow it, else one after the other.

Panes of one variant stand beside each other, so that no model is loaded twice. What fits is asked of those who know:
the host pool what was seen loaded together on a host; this machine's free memory for a host that runs here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from app.core.hosts import HostAddress
from app.services.host_room import Beside

SPARE = 1 << 30  # bytes that are left to everybody else on this machine
MOST_MODELS = 3  # that Ollama keeps loaded at once where nothing else is set, and no more were seen

Wave = tuple[int, ...]
"""Indexes of panes that are asked at the same time."""


class Hosts(Protocol):
    """The part of the host pool that is asked."""

    @property
    def slots(self) -> int: ...

    async def resolve(self, model: str) -> object:
        """Makes sure that the hosts have told what they have."""
        ...

    def beside(self, models: Collection[str]) -> Sequence[tuple[HostAddress, Beside]]: ...


def waves(models: Sequence[str], hosts: Hosts, free: Callable[[], int], *, apart: bool = False) -> tuple[Wave, ...]:
    """All panes once. `models` by pane; `free`: bytes of memory that this machine has left."""
    order = sorted(range(len(models)), key=lambda index: models.index(models[index]))
    slots = 1 if apart else hosts.slots
    if slots < 2:
        return tuple((index,) for index in order)
    planned: list[list[int]] = []
    for index in order:
        wave = planned[-1] if planned else None
        if wave is not None and len(wave) < slots and _fit([*(models[at] for at in wave), models[index]], hosts, free):
            wave.append(index)
        else:
            planned.append([index])
    return tuple(map(tuple, planned))


def _fit(models: Sequence[str], hosts: Hosts, free: Callable[[], int]) -> bool:
    wanted = list(dict.fromkeys(models))
    if len(wanted) == 1:
        return True
    told = hosts.beside(wanted)
    if any(room.fits for _, room in told):
        return True
    few = len(wanted) <= MOST_MODELS
    unknown = [room for address, room in told if few and room.fits is None and not room.gpu and address.here]
    return any(room.more + SPARE <= free() for room in unknown)
