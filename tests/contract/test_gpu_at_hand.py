"""A real NVIDIA GPU, where one is at hand: what Loupe reads beside what `nvidia-smi` says at the same moment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.backends.nvml import NvidiaGpus
from app.core.hardware import Gpu

pytestmark = [
    pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="no NVIDIA GPU here (nvidia-smi is not installed)"),
    pytest.mark.timeout(120),
]
HOLDING = (
    "import torch; block = torch.zeros(3 << 30, dtype=torch.uint8, device='cuda'); print('ready', flush=True); input()"
)


def asked(*names: str) -> list[list[str]]:
    words = ["nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]


def looked() -> tuple[Gpu, ...]:
    gpus = NvidiaGpus().read()
    assert gpus.why == "" and not any(gpu.lost for gpu in gpus.devices)
    return gpus.devices


def test_what_does_not_change_is_told_as_nvidia_smi_tells_it() -> None:
    rows = asked("name", "uuid", "memory.total", "driver_version", "enforced.power.limit")
    assert [
        [gpu.name, gpu.uuid, str((gpu.memory_total or 0) >> 20), NvidiaGpus().read().driver, f"{gpu.power_limit:.2f}"]
        for gpu in looked()
    ] == rows


def test_memory_temperature_and_power_are_those_of_the_moment() -> None:
    for gpu, (used, temperature, power) in zip(
        looked(), asked("memory.used", "temperature.gpu", "power.draw"), strict=True
    ):
        assert gpu.memory_used is not None and abs(gpu.memory_used / 2**20 - float(used)) <= 64
        assert gpu.temperature is not None and abs(gpu.temperature - float(temperature)) <= 5
        assert gpu.power is not None and abs(gpu.power - float(power)) <= 0.2 * float(power) + 10


def test_the_memory_of_a_process_is_told_under_its_pid() -> None:
    """Inside a container whose pids are its own the driver names pids of the machine; then sizes alone can agree."""
    pytest.importorskip("torch", reason="PyTorch is not installed: nothing here puts work on the GPU")
    words = [sys.executable, "-c", HOLDING]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout and holder.stdout.readline() == b"ready\n"
            (held,) = [one for gpu in looked() for one in gpu.processes or () if (one.memory or 0) >= 3 << 30]
            assert held.memory is not None and held.memory < 5 << 30
            assert held.pid == holder.pid or not Path(f"/proc/{held.pid}").exists()
        finally:
            holder.kill()
