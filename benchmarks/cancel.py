"""How soon a place is free after its client has left, and whether a thousand that left leave anything behind.

    python -m benchmarks.cancel [--trials 50] [--abandoned 1000]

A client leaves while it is queued, while its model is being loaded, in the prefill of 2,000 tokens, and in decode,
streamed and not. The runtime has one slot and the physical batch of its defaults.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from benchmarks import subjects
from benchmarks.harness import Report
from tests.cancelling import Footprint, Leaver
from tests.runtime_process import runtime
from tests.served import wait_for
from tests.starter_cache import linked_store

LIMIT = 1.0  # seconds
WARM_UP = 50  # abandoned requests before memory is looked at


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _row(label: str, seconds: list[float]) -> list[str]:
    ordered = sorted(seconds)
    cells = [_quantile(ordered, 0.5), _quantile(ordered, 0.99), ordered[-1]]
    over = sum(value > LIMIT for value in ordered)
    return [label, str(len(ordered)), *(f"{value * 1e3:.0f}" for value in cells), str(over)]


def phases(report: Report, leaver: Leaver, trials: int) -> None:
    idle = sorted(leaver.next_answer() for _ in range(20))
    rows = []
    for name, leave in leaver.phases.items():
        for streamed in (True, False):
            label = f"{name}, {'streamed' if streamed else 'whole'}"
            rows.append(_row(label, [leave(streamed) for _ in range(trials)]))
            print(*rows[-1], flush=True)
    heads = ["the client leaves", "n", "median, ms", "99 %, ms", "longest, ms", f"over {LIMIT:g} s"]
    report.table("From leaving to a free place", heads, rows)
    report.say(
        f"In prefill and decode the next answer of one token is waited for; by itself it takes "
        f"{_quantile(idle, 0.5) * 1e3:.0f} ms (longest of 20: {idle[-1] * 1e3:.0f} ms)."
    )


def leaks(report: Report, leaver: Leaver, abandoned: int) -> None:
    """Clients that leave, one kind after the other; loading is left out, as a new worker has memory of its own."""
    kinds = [(leaver.phases[name], streamed) for name in ("queued", "decode") for streamed in (True, False)]

    def leave(count: int) -> Footprint:
        for number in range(count):
            run, streamed = kinds[number % len(kinds)]
            run(streamed)
        leaver.next_answer()
        return wait_for("the runtime to have nothing open", lambda: _settled(leaver), 10)

    before, after = leave(WARM_UP), leave(abandoned)
    names = ("processes", "descriptors", "sockets", "threads", "memory")
    rows = []
    for name in names:
        one, other, scale = getattr(before, name), getattr(after, name), 1e6 if name == "memory" else 1
        change = f"{(other / one - 1) * 100:+.1f} %"
        rows.append([f"{name}, MB" if name == "memory" else name, f"{one / scale:.0f}", f"{other / scale:.0f}", change])
    report.table(f"What {abandoned} abandoned requests leave behind", ["", "before", "after", "change"], rows)


def _settled(leaver: Leaver) -> Footprint | None:
    """The footprint once it is the same twice."""
    one, other = leaver.footprint(), leaver.footprint()
    return other if (one.sockets, one.descriptors) == (other.sockets, other.descriptors) else None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cancel", description=__doc__)
    parser.add_argument("--trials", type=int, default=50, help="of each kind")
    parser.add_argument("--abandoned", type=int, default=1000, help="requests between the two looks at memory")
    options = parser.parse_args()
    report = Report("cancel", "Clients that leave the runtime")
    with subjects.scratch() as folder:
        store = linked_store(folder / "store", ("q4_0",))
        with runtime(store, folder / "log", OLLAMA_NUM_PARALLEL="1") as server:
            leaver = Leaver(server)
            leaver.next_answer()
            phases(report, leaver, options.trials)
            if options.abandoned:
                leaks(report, leaver, options.abandoned)
    report.finish()


if __name__ == "__main__":
    main()
