"""How long a quantization will take, and what is learned of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.hosts import HostAddress
from app.models.gguf_file import read_gguf
from app.services.making_time import LARGEST, MakingTime, Task, is_here
from tests.gguf_samples import small_llama

pytestmark = pytest.mark.anyio
HERE = HostAddress("one", "http://127.0.0.1:11434")
ELSEWHERE = HostAddress("attic", "http://192.0.2.7:11434")


@pytest.fixture
def task(tmp_path: Path) -> Task:
    path = tmp_path / "m.gguf"
    path.write_bytes(small_llama(2, 256, "F16").bytes())
    return Task(read_gguf(path), "Q4_K_M", "host", 300_000)


async def test_it_is_reckoned_for_this_machine_and_unknown_elsewhere_until_one_was_made_there(
    task: Task, tmp_path: Path
) -> None:
    time = MakingTime(tmp_path / "times.json")
    first = await time.seconds(task, HERE)
    assert first and first > 1.0
    assert await time.seconds(task, ELSEWHERE) is None
    await time.learn(task, ELSEWHERE, 4 * first)
    assert await time.seconds(task, ELSEWHERE) == pytest.approx(4 * first, rel=0.01)
    assert await time.seconds(task, HERE) == first
    assert await MakingTime(tmp_path / "times.json").seconds(task, ELSEWHERE) == pytest.approx(4 * first, rel=0.01)


async def test_a_run_moves_it_half_the_way_and_never_beyond_reason(task: Task, tmp_path: Path) -> None:
    time = MakingTime(tmp_path / "times.json")
    first = await time.seconds(task, HERE) or 0.0
    await time.learn(task, HERE, first)
    await time.learn(task, HERE, 4 * first)
    assert await time.seconds(task, HERE) == pytest.approx(2 * first, rel=0.01)
    for _ in range(9):
        await time.learn(task, HERE, 1e9)
    assert (await time.seconds(task, HERE) or 0.0) <= LARGEST * first


async def test_what_cannot_be_reckoned_is_unknown_and_teaches_nothing(task: Task, tmp_path: Path) -> None:
    time = MakingTime(tmp_path / "missing" / "times.json")
    assert await time.seconds(None, HERE) is None
    await time.learn(None, HERE, 3.0)
    await time.learn(task, HERE, 3.0)  # the folder is not there: it is known while this process lives


def test_the_embedded_runtime_is_here() -> None:
    assert is_here(HERE) and is_here(HostAddress("e", "", embedded=True)) and not is_here(ELSEWHERE)
