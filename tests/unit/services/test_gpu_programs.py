"""Whose the memory of a GPU is: programs by their process numbers, variants by the weights they were started with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from app.core.hardware import Gpu, GpuProcess, Gpus
from app.services.gpu_programs import GpuPrograms, Program, holders, numbers_are_ours, program_of

WEIGHTS = "ab" * 32
GIB = 1 << 30


def test_a_process_is_the_variant_whose_weights_it_was_started_with_and_is_asked_for_once() -> None:
    asked: list[int] = []
    programs = {7: Program("ollama", WEIGHTS), 9: Program("python3")}

    def program(pid: int) -> Program:
        asked.append(pid)
        return programs[pid]

    seen = Gpus((Gpu(0, processes=(GpuProcess(7, 6 * GIB), GpuProcess(9, GIB))), Gpu(1), Gpu(2, processes=())))
    reader = GpuPrograms(lambda: seen, program)
    first = reader.read()
    reader.variant_of = {WEIGHTS: "qwen3:8b"}.__getitem__
    second = reader.read()
    assert first.devices[0].processes == (GpuProcess(7, 6 * GIB, "ollama"), GpuProcess(9, GIB, "python3"))
    assert second.devices[0].processes == (GpuProcess(7, 6 * GIB, "ollama", "qwen3:8b"), GpuProcess(9, GIB, "python3"))
    assert second.devices[1:] == seen.devices[1:] and sorted(asked) == [7, 9]
    assert holders(second.devices[0]) == "qwen3:8b 6.0 GiB, python3 1.0 GiB" and holders(Gpu(1)) == ""


def test_many_holders_are_counted() -> None:
    gpu = Gpu(0, processes=tuple(GpuProcess(pid, pid * GIB, f"p{pid}") for pid in range(1, 9)))
    assert holders(gpu).startswith("p8 8.0 GiB, ") and holders(gpu).endswith("p3 3.0 GiB and 2 more")


def test_a_program_is_known_by_its_name_and_its_command_line() -> None:
    words = [sys.executable, "-c", "input()", "--model", f"/models/blobs/sha256-{WEIGHTS}"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        try:
            told = program_of(process.pid)
        finally:
            process.communicate(b"\n")
    assert told.weights == WEIGHTS and told.name.startswith("python")
    assert program_of(process.pid) == Program()  # it is gone


def test_in_a_container_no_number_is_taken_for_one_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "machine").symlink_to("pid:[4026531836]")
    (tmp_path / "container").symlink_to("pid:[4026532281]")
    assert numbers_are_ours(tmp_path / "machine") and not numbers_are_ours(tmp_path / "container")
    assert numbers_are_ours(tmp_path / "no" / "Linux")
