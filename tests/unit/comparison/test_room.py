"""How much memory models may take on a host."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from app.comparison.room import Room
from app.core.hardware import Gpu, Gpus
from app.core.hosts import HostAddress, LoadedModel
from app.models.wishes import UNLIMITED

GIB = 1 << 30
OLLAMA = HostAddress("ollama", "http://127.0.0.1:11434")
OWN = replace(OLLAMA, embedded=True)
FAR = HostAddress("far", "http://192.0.2.7:11434")
CARD = Gpu(0, memory_used=2 * GIB, memory_total=24 * GIB)


def room(*gpus: Gpu, free: int = 32) -> Room:
    return Room(lambda: free * GIB, lambda: Gpus(gpus))


def loaded(size: int, on_gpu: int) -> LoadedModel:
    return LoadedModel("m:1b", "d", size * GIB, on_gpu * GIB, datetime.now(UTC), 4096)


@pytest.mark.parametrize(
    ("gpus", "address", "held", "gib"),
    [
        ((), OLLAMA, (), 28.8),  # the machine's, less a tenth
        ((CARD,), OLLAMA, (), 21),  # the GPU's, less what llama.cpp leaves free there
        ((CARD, CARD), OLLAMA, (), 43),  # a model is spread over both
        ((CARD,), OWN, (), 28.8),  # our own runtime computes on the processor
        ((CARD,), OLLAMA, (loaded(6, 6),), 27),  # what is loaded would be given back
        ((CARD,), OLLAMA, (loaded(8, 6),), 27),  # each part where it lies
        ((CARD,), OLLAMA, (loaded(8, 0),), 36),  # this host uses no GPU
        ((CARD, Gpu(1, lost="fell off the bus")), OLLAMA, (), 28.8),
    ],
)
def test_a_model_may_take_the_memory_that_it_will_lie_in(
    gpus: tuple[Gpu, ...], address: HostAddress, held: tuple[LoadedModel, ...], gib: float
) -> None:
    assert room(*gpus).budget(address, held) == pytest.approx(gib * GIB, abs=2)


def test_of_another_machine_nothing_is_known() -> None:
    assert room(CARD).budget(FAR) == UNLIMITED
