"""Which program holds a GPU's memory, and for which variant: NVML tells process numbers alone.

A model host starts a process for each model with the file of its weights on the command line (`--model …/sha256-…`,
Ollama), and that file's name is in what the host shows of the variant. In a container the driver may tell the numbers
of the machine, which mean something else there: then nothing is looked up.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import psutil

from app.core.hardware import Gpu, GpuProcess, Gpus

_FIRST_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO of Linux: process numbers mean the machine's
_WEIGHTS = re.compile(r"sha256[-:]([0-9a-f]{64})")
NAMED = 6  # holders of a GPU's memory that are named; more are counted


class Program(NamedTuple):
    """Its name, and the sha256 of the weights it was started with; "" where unknown."""

    name: str = ""
    weights: str = ""


class GpuPrograms:
    """Asks `read` for the GPUs, and names the processes on them. Not for two threads at once."""

    def __init__(self, read: Callable[[], Gpus], program: Callable[[int], Program] | None = None) -> None:
        self._read = read
        self._program = program or (program_of if numbers_are_ours() else lambda pid: Program())
        self._known: dict[int, Program] = {}
        self.variant_of: Callable[[str], str] = lambda weights: ""
        """The name of the variant that has these weights; "" for none."""

    def read(self) -> Gpus:
        gpus = self._read()
        running = {process.pid for gpu in gpus.devices for process in gpu.processes or ()}
        self._known = {pid: self._known.get(pid) or self._program(pid) for pid in running}
        return replace(gpus, devices=tuple(map(self._named, gpus.devices)))

    def _named(self, gpu: Gpu) -> Gpu:
        if not gpu.processes:
            return gpu
        return replace(gpu, processes=tuple(map(self._told, gpu.processes)))

    def _told(self, process: GpuProcess) -> GpuProcess:
        program = self._known[process.pid]
        variant = self.variant_of(program.weights) if program.weights else ""
        return replace(process, name=program.name, variant=variant)


def holders(gpu: Gpu) -> str:
    """Who holds its memory, most first, as far as the driver tells: qwen3:8b 6.2 GiB, python 1.1 GiB."""
    held = sorted(gpu.processes or (), key=lambda one: -(one.memory or 0))
    told = [
        f"{one.variant or one.name or f'process {one.pid}'}" + (f" {one.memory / 2**30:.1f} GiB" if one.memory else "")
        for one in held[:NAMED]
    ]
    return ", ".join(told) + (f" and {len(held) - NAMED} more" if len(held) > NAMED else "")


def program_of(pid: int) -> Program:
    try:
        process = psutil.Process(pid)
        words = process.cmdline()
        name = process.name()
    except (psutil.Error, OSError):
        return Program()
    found = next((weights[1] for word in words if (weights := _WEIGHTS.search(word))), "")
    return Program(name, found)


def numbers_are_ours(namespace: Path = Path("/proc/self/ns/pid")) -> bool:
    """Whether the driver's process numbers mean the same here: outside of containers."""
    try:
        return str(namespace.readlink()) == _FIRST_NAMESPACE
    except OSError:
        return not namespace.parent.is_dir()  # no Linux
