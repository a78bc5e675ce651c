"""How fast quantizing is, and how much memory it takes: one line a file type, then the ladder of the starter family.

    python -m benchmarks.quantizer [--source F16.gguf] [--threads 2] [--rounds 3] [TYPE …]

Every figure is from a process of its own. MB/s per core is source bytes over CPU seconds (user and system, so other
load on the machine matters little); the memory column is how much peak resident memory grew while quantizing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from app.models.gguf_file import read_gguf
from app.runtime.starter import LADDER

ROOT = Path(__file__).parents[1]
OTHERS = ("Q4_1", "Q5_0", "Q5_1", "Q3_K_S", "Q3_K_L", "Q4_K_S", "Q5_K_S", "IQ4_NL", "IQ4_XS")
ONE = """
import json, resource, sys, time
from pathlib import Path
from app.models.quantizer import quantize
source, target, file_type, threads = sys.argv[1:]
usage = resource.getrusage(resource.RUSAGE_SELF)
began, cpu = time.perf_counter(), usage.ru_utime + usage.ru_stime
made = quantize(Path(source), Path(target), file_type, threads=int(threads))
after = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "wall": time.perf_counter() - began, "cpu": after.ru_utime + after.ru_stime - cpu,
    "grown": (after.ru_maxrss - usage.ru_maxrss) * (1 if sys.platform == "darwin" else 1024),
    "bits": made.bits_per_weight, "size": made.size,
}))
"""


def measure(source: Path, file_type: str, threads: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        arguments = [str(source), str(Path(folder) / "made.gguf"), file_type, str(threads)]
        done = subprocess.run(
            [sys.executable, "-c", ONE, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
        )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quantizer", description=__doc__.partition("\n")[0])
    parser.add_argument("--source", type=Path, help="an F16, BF16 or F32 GGUF; without it the starter model's F16 file")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("types", nargs="*", metavar="TYPE")
    options = parser.parse_args()
    if options.source is None:
        from tests.starter_cache import reference_gguf  # downloads and makes it where it is not there yet

        options.source = reference_gguf()
    types = options.types or [*(step.file_type for step in LADDER if step.file_type != "F16"), *OTHERS]
    model = read_gguf(options.source)
    largest = max(tensor.nbytes for tensor in model.tensors) / 1e6
    print(f"{model.size / 1e6:.0f} MB, {model.parameter_count / 1e6:.0f} M weights, largest tensor {largest:.0f} MB")
    print(f"{platform.machine()}, {os.cpu_count()} cores, {options.threads} threads, n = {options.rounds}, medians\n")
    heads = f"{'type':8} {'bpw':>6} {'MB':>5} {'wall s':>7} {'CPU s':>6}"
    print(f"{heads} {'MB/s per core':>14} {'spread':>13} {'RSS +MB':>8}")
    walls: dict[str, float] = {}
    rounds = [{name: measure(options.source, name, options.threads) for name in types} for _ in range(options.rounds)]
    for name in types:
        runs = [one[name] for one in rounds]
        speeds = sorted(model.size / 1e6 / run["cpu"] for run in runs)
        walls[name] = statistics.median(run["wall"] for run in runs)
        cpu = statistics.median(run["cpu"] for run in runs)
        print(f"{name:8} {runs[0]['bits']:6.3f} {runs[0]['size'] / 1e6:5.0f} {walls[name]:7.2f} {cpu:6.2f} "
              f"{statistics.median(speeds):14.0f} {speeds[0]:6.0f}–{speeds[-1]:<6.0f} "
              f"{max(run['grown'] for run in runs) / 1e6:8.0f}")  # fmt: skip
    ladder = [step.file_type for step in LADDER if step.file_type in walls]
    print(f"\nthe ladder ({', '.join(ladder)}): {sum(walls[name] for name in ladder):.1f} s")


if __name__ == "__main__":
    main()
