"""Each figure of the product beside one from an independent source, in one run, while real models answer.

    python -m benchmarks.figures [--seconds 60] [--people 3]

Loupe as a process with its embedded runtime and two variants of the starter model; people ask over plain HTTP with
their own clock. Beside the product's figures stand: /proc, read by this program at each look that the feed tells of;
the runtime's own `/api/ps`; the clocks and counts of the people; a Prometheus that scrapes `/metrics` each second,
where one is found (`python tasks.py test` unpacks Debian's). GPUs: `benchmarks.gpu_figures`. Linux.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import psutil

from benchmarks import proc_reading, subjects
from benchmarks.harness import Report
from benchmarks.plain_clients import Asked, Feed, Person, Series
from tests.served import Served, free_port, http, served_app, wait_for
from tests.starter_cache import linked_store
from tooling.system_packages import find_prometheus

MODELS = ("smollm2:135m-instruct-q4_K_M", "smollm2:135m-instruct-q8_0")
WINDOW = 60.0  # seconds of requests that the live percentiles are of
HEADS = ["figure", "Loupe", "beside it", "difference", "of it", "source"]
MIB = 2**20
MACHINE = (
    ("cpu", "processor, %", 100), ("memory_used", "memory, MiB", 1 / MIB), ("swap_used", "swap, MiB", 1 / MIB),
    ("disk_read", "disk read, kB/s", 1e-3), ("disk_written", "disk written, kB/s", 1e-3),
    ("network_sent", "network sent, kB/s", 1e-3), ("network_received", "network received, kB/s", 1e-3),
)  # fmt: skip
Row = list[str]


@dataclass(slots=True)
class Looks:
    """The product's looks at the machine, each with a reading of /proc over the same second."""

    pairs: list[tuple[dict[str, float], dict[str, float]]]

    @classmethod
    def of(cls, app: Served) -> Looks:
        looks, before = cls([]), [proc_reading.read()]

        def take(told: dict[str, Any]) -> None:
            machine = told["machine"]
            now = proc_reading.read([use["pid"] for use in machine["processes"]])
            figures = {name: machine[name] for name, _, _ in MACHINE if machine[name] is not None}
            figures |= {f"core{number}": share for number, share in enumerate(machine["cores"])}
            for use in machine["processes"]:
                figures[f"resident {use['pid']}"] = use["memory"]
                if use["cpu"] is not None:
                    figures[f"process {use['pid']}"] = use["cpu"]
            if now.at - before[0].at > 0.5:  # the first one comes at once
                looks.pairs.append((figures, proc_reading.between(before[0], now)))
            before[0] = now

        Feed(f"{app.url}/loupe/hardware/events", take)
        return looks


@dataclass(slots=True)
class Run:
    """All that was seen. `began` and `ended` in monotonic seconds; `lists` pairs of a loaded model's memory."""

    app: Served
    people: list[Person]
    looks: Looks
    series: Series
    names: dict[int, str]
    runtime_lists: dict[str, int]
    began: float
    ended: float

    @property
    def asked(self) -> list[Asked]:
        return [asked for person in self.people for asked in person.asked]


def row(figure: str, ours: float, other: float, source: str, digits: int = 1) -> Row:
    share = f"{100 * (ours / other - 1):+.2f} %" if other else ""
    return [figure, f"{ours:.{digits}f}", f"{other:.{digits}f}", f"{ours - other:+.{digits}f}", share, source]


def machine_rows(run: Run) -> Iterator[Row]:
    pairs = run.looks.pairs[1:]
    cores = [(f"core{number}", f"core {number}, %", 100) for number in range(psutil.cpu_count() or 1)]
    for name, label, scale in (*MACHINE, *cores):
        both = [(ours[name] * scale, other[name] * scale) for ours, other in pairs if name in ours and name in other]
        if both:
            yield [*row(label, fmean(a for a, _ in both), fmean(b for _, b in both), "/proc"), each(both)]
    for pid, what in run.names.items():
        for name, label, scale in (("process", "% of a core", 100.0), ("resident", "resident, MiB", 1 / MIB)):
            key = f"{name} {pid}"
            both = [(ours[key] * scale, other[key] * scale) for ours, other in pairs if key in ours and key in other]
            if both:
                yield [*row(f"{what}, {label}", fmean(a for a, _ in both), fmean(b for _, b in both),
                            f"/proc/PID/stat, {len(both)} looks"), each(both)]  # fmt: skip


def each(both: Sequence[tuple[float, float]]) -> str:
    """Differences of single looks: median, and the largest."""
    apart = [abs(a - b) for a, b in both]
    return f"{median(apart):.1f}; {max(apart):.1f}"


def client_rows(run: Run) -> Iterator[Row]:
    """Each request as its client saw it and as Loupe tells of it. Milliseconds."""
    asked = [one for one in run.asked if not one.repeated]
    told = {one.id: json.loads(http(f"{run.app.url}/loupe/requests/{one.id}")[1]) for one in asked}
    for label, ours, theirs in (
        ("first token, ms", "ttft_ns", [1000 * one.ttft for one in asked]),
        ("whole answer, ms", "duration_ns", [1000 * one.whole for one in asked]),
    ):
        mine = [told[one.id][ours] / 1e6 for one in asked]
        both = list(zip(mine, theirs, strict=True))
        yield [*row(f"{label} (mean of {len(asked)})", fmean(mine), fmean(theirs), "the client's clock"), each(both)]
    tokens = sum(told[one.id]["output_tokens"] for one in asked)
    yield [*row("tokens written", tokens, sum(one.last["eval_count"] for one in asked), "the host's last line", 0), ""]
    yield [*row("tokens written", tokens, sum(len(one.pieces) for one in asked), "pieces that came", 0), ""]
    prompts = sum(told[one.id]["prompt_tokens"] for one in asked)
    yield [*row("tokens read", prompts, sum(one.last["prompt_eval_count"] for one in asked),
                "the host's last line", 0), ""]  # fmt: skip


def series_rows(run: Run) -> Iterator[Row]:
    samples = [sample for sample in run.series.samples if run.began <= sample[0] <= run.ended]
    steps = zip(samples, samples[1:], strict=False)
    seconds = samples[-1][0] - samples[0][0]
    written = sum(now[1]["tokens_per_second"] * (now[0] - before[0]) for before, now in steps)
    arrived = [moment for one in run.asked if not one.repeated for moment in one.pieces]
    came = sum(samples[0][0] < moment <= samples[-1][0] for moment in arrived)
    yield row("tokens a second", written / seconds, came / seconds, f"pieces that came in {seconds:.0f} s", 2)
    busy = fmean(figures["queue_running"] + figures["queue_waiting"] for _, figures, _ in samples)
    yield row("requests under way (mean)", busy, fmean(beside["under way"] for *_, beside in samples), "the people", 2)
    moment, figures, _ = samples[-1]
    lately = [one for one in run.asked if moment - WINDOW < one.ended <= moment]
    firsts = sorted(1000 * one.ttft for one in lately if not one.repeated)
    for name, share in (("ttft_p50", 0.5), ("ttft_p95", 0.95)):
        yield row(f"{name} of the last minute, ms", 1000 * figures[name], quantile(firsts, share),
                  f"clients' clocks, n {len(firsts)}")  # fmt: skip
    asked = [one for one in lately if one.cacheable]
    hits = sum(one.repeated for one in asked) / len(asked)
    yield row(
        "cache hit rate, %", 100 * figures["cache_hit_rate"], 100 * hits, f"questions asked twice, n {len(asked)}"
    )
    yield row("error rate, %", 100 * figures["error_rate"], 0.0, f"answers that failed, n {len(lately)}")
    for model, size in run.runtime_lists.items():
        yield row(f"{model.rpartition('-')[2]} in memory, MiB", figures.get(f"loaded.{model}", 0) / MIB, size / MIB,
                  "the runtime's /api/ps")  # fmt: skip


def metric_rows(run: Run, ask: Callable[[str], float], where: str) -> Iterator[Row]:
    """What `/metrics` counts, by a Prometheus or by itself, beside the people's counts."""
    fresh = [one for one in run.asked if not one.repeated]
    for label, query, other, digits in (
        ("requests", "sum(loupe_requests_total)", len(run.asked), 0),
        ("of them from the cache", 'sum(loupe_requests_total{cache="hit"})', len(run.asked) - len(fresh), 0),
        ("tokens written", 'sum(loupe_tokens_total{kind="output"})', sum(len(one.pieces) for one in fresh), 0),
        ("first tokens, s (sum)", "sum(loupe_time_to_first_token_seconds_sum)", sum(one.ttft for one in fresh), 3),
        ("whole answers, s (sum)", "sum(loupe_request_seconds_sum)", sum(one.whole for one in fresh), 3),
    ):
        yield row(label, ask(query), other, f"the people; {where}", digits)


def prometheus_rows(run: Run, ask: Callable[[str], float]) -> Iterator[Row]:
    yield from metric_rows(run, ask, "told by Prometheus")
    seconds = round(run.ended - run.began)
    other = fmean(other["cpu"] for _, other in run.looks.pairs[-seconds:])
    query = f'avg_over_time(loupe_hardware{{series="cpu"}}[{seconds}s])'
    yield row("processor, %", 100 * ask(query), 100 * other, f"/proc; Prometheus's mean of {seconds} s", 2)
    arrived = [moment for one in run.asked if not one.repeated for moment in one.pieces]
    rate = ask(f'sum(rate(loupe_tokens_total{{kind="output"}}[{seconds}s]))')
    yield row("tokens a second", rate, sum(run.began < moment <= run.ended for moment in arrived) / seconds,
              f"pieces that came; Prometheus's rate over {seconds} s", 2)  # fmt: skip
    for pid in list(run.names)[:1]:
        resident = ask('loupe_hardware{series="memory_used"}')
        memory = proc_reading.read([pid]).memory_used
        yield row("memory, MiB", resident / MIB, memory / MIB, "/proc; the newest that Prometheus has")


def quantile(ascending: Sequence[float], share: float) -> float:
    place = share * (len(ascending) - 1)
    below = int(place)
    return ascending[below] + (ascending[min(below + 1, len(ascending) - 1)] - ascending[below]) * (place - below)


def plain_metrics(app: Served) -> Callable[[str], float]:
    """Sums of `/metrics` by the name and the labels in a query such as sum(NAME{LABEL="…"})."""
    lines = http(f"{app.url}/metrics")[1].decode().splitlines()

    def ask(query: str) -> float:
        name, _, label = query.removeprefix("sum(").rstrip("})").partition("{")
        found = [line for line in lines if line.startswith((f"{name}{{", f"{name} ")) and label in line]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    return ask


@contextmanager
def prometheus(programs: Path, folder: Path, target: str) -> Iterator[Callable[[str], float]]:
    jobs = [{"job_name": "loupe", "scrape_interval": "1s", "static_configs": [{"targets": [target]}]}]
    (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": jobs}))
    port = free_port()
    words = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([programs / "prometheus", *words], cwd=folder, stdout=log, stderr=log)

    def ask(query: str) -> float:
        answer = http(f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(query)}")
        found = json.loads(answer[1])["data"]["result"] if answer[0] == 200 else []
        return float(found[0]["value"][1]) if found else float("nan")

    try:
        wait_for("Prometheus to scrape", lambda: ask("up") == 1, 60)
        yield ask
    finally:
        process.terminate()
        process.wait(20)


def runtime_list(app: Served) -> dict[str, int]:
    """The runtime's own `/api/ps`, asked past Loupe: bytes by model. Its key is that of our own child."""
    for process in psutil.Process(app.process.pid).children():
        key = process.environ().get("LOUPE_RUNTIME_KEY")
        ports = [one.laddr.port for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
        if key and ports:
            told = http(f"http://127.0.0.1:{ports[0]}/api/ps", headers={"Authorization": f"Bearer {key}"})
            return {one["name"]: one["size"] for one in json.loads(told[1])["models"]}
    raise AssertionError("the embedded runtime is not to be found")


def watched(app: Served, seconds: float, people: int) -> Run:
    persons = [Person(app.url, number, MODELS) for number in range(people)]
    series = Series(app.url, lambda: {"under way": float(sum(one.now is not None for one in persons))})
    looks = Looks.of(app)
    for person in persons:
        person.start()
    wait_for("answers by everybody", lambda: all(person.asked for person in persons), 120)
    began = time.monotonic()
    time.sleep(seconds)
    ended = time.monotonic()
    for person in persons:
        person.stop()
    for person in persons:
        person.join()
    told = http(f"{app.url}/loupe/hardware")[1]
    uses = json.loads(told)["machine"]["processes"]
    names = {use["pid"]: f"{use['name']} {number}" for number, use in enumerate(uses, 1)}
    lists = runtime_list(app)
    wait_for("the newest list", lambda: set(lists) <= loaded(series), 60)
    return Run(app, persons, looks, series, names, lists, began, ended)


def loaded(series: Series) -> set[str]:
    return {name.removeprefix("loaded.") for name in series.samples[-1][1] if name.startswith("loaded.")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of watching, from everybody's first answer on")
    parser.add_argument("--people", type=int, default=3)
    asked = parser.parse_args()
    report = Report("figures", "Loupe's figures beside independent ones")
    with subjects.scratch() as folder:
        linked_store(folder / "data" / "models", ("q4_K_M", "q8_0"))
        (folder / "data").chmod(0o700)
        with served_app(folder / "data", LOUPE_STARTER="off") as app:
            app.wait_ready()
            programs = find_prometheus()
            scraped = prometheus(programs, folder, app.url.removeprefix("http://")) if programs else nullcontext()
            with scraped as ask:
                tell(report, watched(app, asked.seconds, asked.people), ask)
    report.finish()


def tell(report: Report, run: Run, ask: Callable[[str], float] | None) -> None:
    wide = [*HEADS, "single ones: median; most"]
    report.table(f"The machine, {len(run.looks.pairs) - 1} looks", wide, list(machine_rows(run)))
    report.table("Each request", wide, list(client_rows(run)))
    report.table("The live series", HEADS, list(series_rows(run)))
    report.table("/metrics", HEADS, list(metric_rows(run, plain_metrics(run.app), "read once at the end")))
    if ask is None:
        report.say("No Prometheus was found.")
        return
    wait_for("the last scrape", lambda: ask("sum(loupe_requests_total)") == len(run.asked), 30)
    report.table("Prometheus, which scrapes each second", HEADS, list(prometheus_rows(run, ask)))


if __name__ == "__main__":
    main()
