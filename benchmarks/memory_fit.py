"""Predicted against measured memory: what llama.cpp's log says when our worker loads a model.

    python -m benchmarks.memory_fit [--model FILE.gguf …] [--no-shapes] [--record FILE.json]

The starter family, other files by name, and the shapes of well-known models (`tests/model_shapes`: real headers, no
weights), each at several contexts, batches and slots. MiB; the error is predicted minus measured, of the total.
Exit status 1 when one is further off than its prediction says it may be.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from app.models.gguf_file import read_gguf
from app.models.memory_fit import MemoryPrediction, ModelFacts, facts_of_file, predict
from app.runtime.worker_process import WorkerConfig, start_worker
from tests.model_shapes import SHAPES, write_hollow
from tests.starter_cache import TAGS, variant_gguf

MIB = 1 << 20
_BUFFER = re.compile(r":\s+\S+\s+(model|KV|compute|output|RS)\s+buffer size\s*=\s*([0-9.]+)\s*MiB")
_PARTS = {"model": "weights", "KV": "kv", "RS": "state", "compute": "compute", "output": "output"}
USUAL = ((4096, 128, 1, False),)
SWEEP = (
    (256, 128, 1, False), (2048, 128, 1, False), (4096, 32, 1, False), (4096, 128, 1, False), (4096, 128, 1, True),
    (4096, 512, 1, False), (8192, 128, 1, False), (8192, 1024, 1, False), (4096, 128, 2, False), (4096, 128, 4, False),
    (1000, 128, 3, False), (2048, 512, 4, False),
)  # fmt: skip
FOR_SHAPES = ((1024, 128, 1, False), (4096, 512, 1, False), (1024, 128, 2, False))


@dataclass(frozen=True, slots=True)
class Row:
    """One load; measured bytes by part, as exact as the log's two decimals of a MiB. Copies are among the weights."""

    name: str
    context: int
    batch: int
    slots: int
    mapped: bool
    weights: int
    kv: int
    state: int
    compute: int
    output: int

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.state + self.compute + self.output


async def measure(name: str, path: Path, context: int, batch: int, slots: int, mapped: bool) -> Row:
    """Loads the file as the runtime does and reads the sizes off the log."""
    config = WorkerConfig(
        model=path, num_ctx=context, parallel=slots, batch=batch, threads=1, shift=True, mmap=mapped, load_timeout_s=60
    )
    worker = await start_worker(config, name)
    await worker.kill()  # its last lines have been read when it is gone
    lines = worker.log.tail
    parts = dict.fromkeys(_PARTS.values(), 0)
    for line in lines:
        if found := _BUFFER.search(line):
            parts[_PARTS[found.group(1)]] += round(float(found.group(2)) * MIB)
    return Row(name, context, batch, slots, mapped, **parts)


def show(row: Row, made: MemoryPrediction) -> float:
    """Prints a line and gives the error as a share of what the prediction allows."""
    predicted = ((made.weights or 0) + made.copies, made.kv, made.state, made.compute, made.output)
    measured = (row.weights, row.kv, row.state, row.compute, row.output)
    cells = "".join(
        f"{(left or 0) / MIB:10.2f}{right / MIB:9.2f}" for left, right in zip(predicted, measured, strict=True)
    )
    error = (made.total or 0) - row.total
    where = f"{row.name:19}{row.context:6}{row.batch:5}{row.slots:3}{' map' if row.mapped else '    '}"
    print(
        f"{where}{cells}{error / MIB:8.2f}{100 * error / row.total:7.2f} %  ±{made.uncertainty / MIB:.2f}", flush=True
    )
    return abs(error) / made.uncertainty


def subjects(models: list[Path], shapes: bool, folder: Path) -> Iterator[tuple[str, Path, tuple]]:
    for tag in TAGS:
        yield f"SmolLM2 {tag}", variant_gguf(tag), SWEEP if tag == "q4_0" else USUAL
    for path in models:
        yield path.stem[:18], path, SWEEP
    for name, shape in SHAPES.items() if shapes else ():
        path = write_hollow(shape(), folder / "hollow.gguf")
        yield name, path, FOR_SHAPES
        path.unlink()


def expected(facts: ModelFacts, row: Row) -> MemoryPrediction:
    return predict(facts, context=row.context, slots=row.slots, batch=row.batch, mapped=row.mapped)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory_fit", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, action="append", default=[], help="another GGUF file")
    parser.add_argument("--no-shapes", action="store_true", help="real models only")
    parser.add_argument("--record", type=Path, help="write what was measured, for the tests")
    options = parser.parse_args()
    heads = "".join(f"{part:>10}{'measured':>9}" for part in _PARTS.values())
    print(f"{'model':19}{'ctx':>6}{'ub':>5}{'sl':>3}    {heads}{'error':>8}{'':7}    allowed")
    rows: list[Row] = []
    worst = 0.0
    errors: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, path, settings in subjects(options.model, not options.no_shapes, Path(folder)):
            facts = facts_of_file(read_gguf(path))
            for setting in settings:
                row = asyncio.run(measure(name, path, *setting))
                made = expected(facts, row)
                rows.append(row)
                worst = max(worst, show(row, made))
                errors.append(((made.compute or 0) - row.compute) / row.compute)
    errors.sort()
    middle = sorted(map(abs, errors))[len(errors) // 2]
    print(f"\n{len(rows)} loads. Compute: {100 * errors[0]:+.1f} to {100 * errors[-1]:+.1f} %, median of the absolute "
          f"error {100 * middle:.2f} %. Total: at most {100 * worst:.0f} % of what is allowed.")  # fmt: skip
    if options.record:
        lines = ",\n".join(json.dumps(asdict(row)) for row in rows)
        options.record.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    return 1 if worst > 1 else 0


if __name__ == "__main__":
    sys.exit(main())
