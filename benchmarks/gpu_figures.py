"""What Loupe tells of an NVIDIA GPU beside what `nvidia-smi` tells, in one run, while the GPU is given known work.

    python -m benchmarks.gpu_figures [--seconds 10] [--keep FILE]

Needs an NVIDIA GPU, `nvidia-smi`, and PyTorch in this interpreter (for the work alone). The whole product runs as a
process, with no model host; its `GET /loupe/hardware/events` is read. The work is a process of its own that holds so
much memory and is busy for so much of the time as each phase says. `--keep`: the looks as JSON lines.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import Report
from benchmarks.plain_clients import Feed
from tests.served import Served, served_app

WORK = """
import sys, time, torch
held, share = int(sys.argv[1]), float(sys.argv[2])
block = torch.empty(held, dtype=torch.uint8, device="cuda")
matrix = torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda")
print("ready", flush=True)
while True:
    began = time.monotonic()
    while time.monotonic() - began < share * 0.1:
        matrix @ matrix
        torch.cuda.synchronize()
    time.sleep(0.1 - share * 0.1 if share else 0.1)
"""
PHASES = (("idle", None), ("10 GiB held", (10 << 30, 0.0)), ("half busy", (2 << 30, 0.5)), ("busy", (2 << 30, 1.0)))
SETTLE_SECONDS = 3.0
ASKED = {
    "utilisation": ("utilization.gpu", 0.01),
    "memory_used": ("memory.used", float(1 << 20)),
    "temperature": ("temperature.gpu", 1.0),
    "power": ("power.draw.instant", 1.0),
    "clock": ("clocks.sm", 1.0),
    "memory_clock": ("clocks.mem", 1.0),
}
"""Our figure, NVIDIA's name of it, and what its unit is in ours."""
SHOWN = {"utilisation": ("%", 100.0), "memory_used": ("GiB", 1 / 2**30), "temperature": ("°C", 1.0),
         "power": ("W", 1.0), "clock": ("MHz", 1.0), "memory_clock": ("MHz", 1.0)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Phase:
    name: str
    ours: list[Mapping[str, Any]]
    theirs: dict[str, list[float]]
    seconds: float
    processes: tuple[dict[int, int], dict[int, int]]
    """Bytes by process: ours, nvidia-smi's."""


@contextmanager
def working(held: int, share: float) -> Iterator[None]:
    worker = subprocess.Popen([sys.executable, "-c", WORK, str(held), str(share)], stdout=subprocess.PIPE)
    assert worker.stdout
    try:
        worker.stdout.readline()
        yield
    finally:
        worker.kill()
        worker.wait()


def nvidia_smi(*words: str) -> list[list[str]]:
    done = subprocess.run(
        ["nvidia-smi", *words, "--format=csv,noheader,nounits"], capture_output=True, text=True, check=True
    )
    return [[cell.strip() for cell in row] for row in csv.reader(done.stdout.splitlines())]


def measure(name: str, looks: list[dict[str, Any]], seconds: float) -> Phase:
    time.sleep(SETTLE_SECONDS)
    names = list(ASKED.values())
    theirs: dict[str, list[float]] = {figure: [] for figure in ASKED}
    first, began = len(looks), time.monotonic()
    while time.monotonic() - began < seconds:
        row = nvidia_smi(f"--query-gpu={','.join(asked for asked, _ in names)}")[0]
        for (figure, (_, unit)), cell in zip(ASKED.items(), row, strict=True):
            with suppress(ValueError):
                theirs[figure].append(float(cell) * unit)
        time.sleep(0.2)
    took = time.monotonic() - began
    told = [look["gpus"]["devices"][0] for look in looks[first:] if look["gpus"]["devices"]]
    listed = nvidia_smi("--query-compute-apps=pid,used_gpu_memory")
    running = {int(pid): int(memory) << 20 for pid, memory in listed if memory.isdecimal()}
    ours = {one["pid"]: one["memory"] or 0 for one in (told[-1]["processes"] or ())} if told else {}
    return Phase(name, told, theirs, took, (ours, running))


def rows_of(phase: Phase) -> Iterator[list[str]]:
    for figure, (unit, scale) in SHOWN.items():
        ours = [look[figure] * scale for look in phase.ours if look[figure] is not None]
        theirs = [value * scale for value in phase.theirs[figure]]
        if not ours or not theirs:
            yield [phase.name, f"{figure}, {unit}", str(len(ours)), str(len(theirs)), "", ""]
            continue
        mine, other = statistics.fmean(ours), statistics.fmean(theirs)
        share = f"{(mine / other - 1) * 100:+.1f} %" if other else ""
        yield [phase.name, f"{figure}, {unit}", f"{mine:.2f} ({spread(ours)})", f"{other:.2f} ({spread(theirs)})",
               f"{mine - other:+.2f}", share]  # fmt: skip
    mine_all, other_all = phase.processes
    for pid in sorted(mine_all | other_all):
        one, two = (None if found.get(pid) is None else found[pid] / 2**30 for found in (mine_all, other_all))
        yield [phase.name, "one process, GiB", str(one and round(one, 3)), str(two and round(two, 3)),
               "" if one is None or two is None else f"{one - two:+.3f}", ""]  # fmt: skip
    counted = [look["energy"] for look in phase.ours if look["energy"] is not None]
    if len(counted) > 1 and phase.theirs["power"]:
        drawn, power = counted[-1] - counted[0], statistics.fmean(phase.theirs["power"])
        span = power * (len(counted) - 1)
        yield [phase.name, "energy, J (counter; theirs: power x s)", f"{drawn:.0f}", f"{span:.0f}",
               f"{drawn - span:+.0f}", f"{(drawn / span - 1) * 100:+.1f} %"]  # fmt: skip


def spread(values: list[float]) -> str:
    return f"{min(values):.1f}–{max(values):.1f}"


def cost_of_a_look(times: int = 50) -> tuple[float, float]:
    """Milliseconds of wall clock and of processor time for one look at the GPUs."""
    from app.backends.nvml import NvidiaGpus

    reader = NvidiaGpus()
    reader.read()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        reader.read()
    return (time.perf_counter() - wall) * 1000 / times, (time.process_time() - cpu) * 1000 / times


def phases(product: Served, seconds: float) -> tuple[list[Phase], list[dict[str, Any]], tuple[float, float]]:
    looks: list[dict[str, Any]] = []
    measured: list[Phase] = []
    Feed(f"{product.url}/loupe/hardware/events", looks.append)
    costs = (0.0, 0.0)
    for name, work in PHASES:
        if work is None:
            measured.append(measure(name, looks, seconds))
            continue
        with working(*work):
            measured.append(measure(name, looks, seconds))
            costs = cost_of_a_look()
    return measured, looks, costs


def main(finish: Callable[[Report], object] = Report.finish) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each phase")
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    report = Report("gpu_figures", "Loupe beside nvidia-smi")
    with (
        tempfile.TemporaryDirectory() as folder,
        served_app(Path(folder) / "data", OLLAMA_HOST="127.0.0.1:9") as product,
    ):
        product.wait_ready("/healthz")
        measured, told, (wall, cpu) = phases(product, asked.seconds)
    if asked.keep:
        asked.keep.write_text("".join(json.dumps(look) + "\n" for look in told))
    gpu = told[-1]["gpus"]
    report.table(
        f"{gpu['devices'][0]['name']}, driver {gpu['driver']}",
        ["phase", "figure", "Loupe", "nvidia-smi", "difference", "of it"],
        [row for phase in measured for row in rows_of(phase)],
    )
    report.say(
        f"Mean (least to most) of {len(measured[0].ours)} looks and {len(measured[0].theirs['power'])} answers "
        f"of nvidia-smi a phase. One look at the GPU takes {wall:.1f} ms, {cpu:.1f} ms of a core (n = 50, GPU busy). "
        f"Unknown: {gpu['devices'][0]['unknown'] or 'nothing'}."
    )
    finish(report)


if __name__ == "__main__":
    main()
