"""Which panes are asked at the same time."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from app.comparison.pane_plan import SPARE, waves
from app.core.hosts import HostAddress
from app.services.host_room import Beside

HERE, THERE = HostAddress("here", "http://127.0.0.1:1"), HostAddress("there", "http://192.168.1.20:11434")
GIB = 1 << 30


class Hosts:
    def __init__(self, slots: int, address: HostAddress = HERE, *, each: int = GIB, **known: bool | None) -> None:
        self.slots, self._address, self._each = slots, address, each
        self._fits, self._gpu = known.get("fits"), bool(known.get("gpu"))

    async def resolve(self, model: str) -> None:
        raise NotImplementedError

    def beside(self, models: Collection[str]) -> list[tuple[HostAddress, Beside]]:
        return [(self._address, Beside(self._fits, self._each * len(models), self._gpu))]


def planned(hosts: Hosts, models: str, free: int = 100 * GIB, *, apart: bool = False) -> list[tuple[int, ...]]:
    return list(waves(models.split(), hosts, lambda: free, apart=apart))


@pytest.mark.parametrize(
    ("hosts", "together"),
    [
        (Hosts(4, fits=True), True), (Hosts(4, fits=False), False), (Hosts(1, fits=True), False),
        (Hosts(4, fits=None), True), (Hosts(4, THERE, fits=None), False), (Hosts(4, THERE, fits=True), True),
        (Hosts(4, fits=None, gpu=True), False), (Hosts(0), False),
    ],
)  # fmt: skip
def test_panes_go_together_where_slots_and_memory_are_known_to_allow_it(hosts: Hosts, together: bool) -> None:
    assert planned(hosts, "a b") == ([(0, 1)] if together else [(0,), (1,)])


def test_as_many_as_fit_into_the_free_memory() -> None:
    assert planned(Hosts(8), "a b c d e", free=2 * GIB + SPARE) == [(0, 1), (2, 3), (4,)]


def test_no_more_models_than_a_host_keeps_loaded_unless_more_were_seen() -> None:
    assert planned(Hosts(8), "a b c d") == [(0, 1, 2), (3,)]
    assert planned(Hosts(8, fits=True), "a b c d") == [(0, 1, 2, 3)]


def test_no_more_than_there_are_slots() -> None:
    assert planned(Hosts(2, fits=True), "a b c") == [(0, 1), (2,)]


def test_panes_of_one_variant_are_neighbours() -> None:
    assert planned(Hosts(1), "a b a c b") == [(0,), (2,), (1,), (4,), (3,)]


def test_one_variant_twice_needs_its_memory_once() -> None:
    assert planned(Hosts(4, fits=False), "a a") == [(0, 1)]


def test_where_it_is_asked_for_they_go_one_after_the_other() -> None:
    assert planned(Hosts(4, fits=True), "a b", apart=True) == [(0,), (1,)]
