"""Energy counters as this machine's kernel shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.services.energy import EnergyMeter, drawn


def zone(folder: Path, name: str, text: str) -> Path:
    (folder / name).mkdir(parents=True)
    file = folder / name / "energy_uj"
    file.write_text(text)
    return file


def test_packages_are_added_and_what_is_part_of_one_is_not(tmp_path: Path) -> None:
    first, second = zone(tmp_path, "intel-rapl:0", "1000000\n"), zone(tmp_path, "intel-rapl:1", "5000000\n")
    zone(tmp_path, "intel-rapl:0:0", "900000\n")
    meter = EnergyMeter(tmp_path)
    before = meter.read()
    assert before is not None and before[:2] == (1.0, 5.0)
    first.write_text("3500000\n")
    second.write_text("6000000\n")
    after = meter.read()
    assert after is not None and drawn(before[:2], after[:2]) == pytest.approx(3.5)


def test_without_a_counter_there_is_no_figure(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "nonsense")
    assert EnergyMeter(tmp_path)._packages() == []
    assert drawn(None, (1.0,)) is None


@pytest.mark.parametrize(("before", "after"), [((5.0,), (1.0,)), ((1.0,), (1.0,)), ((1.0,), (2.0, 3.0))])
def test_a_counter_that_began_anew_or_stands_still_tells_nothing(
    before: tuple[float, ...], after: tuple[float, ...]
) -> None:
    assert drawn(before, after) is None
