"""The rules and the dashboard of `deploy/` in a real Prometheus: they load, they mean what Loupe's own rules mean, and
one of them fires by what Loupe's `/metrics` tells."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pynvml
import pytest

from app.core.alerts import Rule
from app.services.alerting import watching
from app.services.alerting.prometheus import AWAY, alert_name, as_rules
from app.services.alerting.shipped import SHIPPED
from app.services.alerting.watching import Watch
from proving.stand import loupe
from tests.fake_nvml import FakeGpu, FakeLibrary, installed
from tests.grafana import dashboard, text
from tests.served import free_port
from tests.stub_ollama import MODEL, StubOllama, served
from tooling.system_packages import find_prometheus

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]
ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
STEP = 5  # seconds between two looks, ours and Prometheus's
SECONDS = 60.0  # a deadline
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Who?"}]}


@pytest.fixture(scope="module")
def programs() -> Path:
    """The folder of prometheus and promtool."""
    found = find_prometheus()
    if found is None and shutil.which("apt-get"):
        pytest.fail("no Prometheus, and it can be had here: python3 tasks.py test does that")
    if found is None:
        pytest.skip("no Prometheus 2.42 or newer on this machine")
    return found


def test_the_files_of_deploy_are_those_that_the_rules_make() -> None:
    rules, board = DEPLOY / "prometheus/loupe-rules.yml", DEPLOY / "grafana/loupe.json"
    assert rules.read_text(encoding="utf-8") == as_rules(SHIPPED), "python -m app alerts --prometheus makes it anew"
    assert board.read_text(encoding="utf-8") == text(), "python -m tests.grafana makes it anew"


def run(programs: Path, *words: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run([programs / "promtool", *words], capture_output=True, text=True, timeout=60, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_reads_the_rules_and_the_example_that_loads_them(programs: Path) -> None:
    said = run(programs, "check", "config", DEPLOY / "prometheus/prometheus.yml")
    assert f"{len(SHIPPED) + 1} rules found" in said


def course(rule: Rule) -> list[float]:
    """A figure at each look: too short, long enough, trembling, back for too short, back for long enough, again."""
    beyond = rule.limit + (0.5 if rule.above else -0.5) * max(1e-3, abs(rule.limit) * 0.1)
    between = (rule.limit + rule.clear) / 2
    back = rule.clear + (-0.5 if rule.above else 0.5) * max(1e-3, abs(rule.clear) * 0.1)
    hold, rest = round(rule.hold / STEP), round(rule.rest / STEP)
    parts = [
        (back, 4), (beyond, max(0, hold - 2)), (back, 4), (beyond, hold + 12), (between, rest + 12),
        (back, max(1, rest - 4)), (beyond, 12), (back, rest + 24), (beyond, hold + 12), (back, 2),
    ]  # fmt: skip
    return [value for value, times in parts for _ in range(times)]


def fires(rule: Rule, figures: list[float]) -> list[bool]:
    """Whether our own rule has an open alert after each look."""
    watch, told = Watch(rule, "one"), []
    for number, value in enumerate(figures):
        watch.see(value, number * STEP, number * STEP)
        told.append(watch.open)
    return told


def trial(rule: Rule) -> dict[str, Any]:
    """A test of promtool's: the figure's course, and at many moments whether the rule fires as ours does."""
    figures = course(rule)
    ours = fires(rule, figures)
    # Where one of the two just changes they may be one look apart.
    sure = [n for n in range(2, len(ours) - 2) if len(set(ours[n - 2 : n + 3])) == 1]
    checks = [
        {"eval_time": f"{n * STEP}s", "expr": f'count(ALERTS{{alertname="{alert_name(rule)}",alertstate="firing"}})',
         "exp_samples": [{"labels": "{}", "value": 1}] if ours[n] else []}
        for n in sure[:: max(1, len(sure) // 60)]
    ]  # fmt: skip
    assert {bool(check["exp_samples"]) for check in checks} == {True, False}
    labels = f'{{series="{rule.series}", subject="one", job="loupe", instance="here"}}'
    return {
        "name": rule.name, "interval": f"{STEP}s", "promql_expr_test": checks,
        "input_series": [{"series": f"loupe_watched{labels}", "values": " ".join(f"{one:.9g}" for one in figures)}],
    }  # fmt: skip


def test_each_rule_fires_and_ends_in_prometheus_as_it_does_in_loupe(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "LONGEST_REST", 0.0)  # that a rest grows with each return Prometheus cannot say
    shutil.copy(DEPLOY / "prometheus/loupe-rules.yml", tmp_path)
    trials = {"rule_files": ["loupe-rules.yml"], "evaluation_interval": f"{STEP}s", "tests": list(map(trial, SHIPPED))}
    (tmp_path / "trials.yml").write_text(json.dumps(trials))
    assert "SUCCESS" in run(programs, "test", "rules", "trials.yml", cwd=tmp_path)


@asynccontextmanager
async def prometheus(programs: Path, folder: Path, target: str) -> AsyncIterator[httpx.AsyncClient]:
    """A Prometheus that scrapes Loupe each second and has its rules."""
    shutil.copy(DEPLOY / "prometheus/loupe-rules.yml", folder)
    jobs = [{"job_name": "loupe", "scrape_interval": "1s", "static_configs": [{"targets": [target]}]}]
    (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": jobs, "rule_files": ["loupe-rules.yml"]}))
    port = free_port()
    with (folder / "log").open("wb") as log:
        words = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address=127.0.0.1:{port}"]
        process = await asyncio.create_subprocess_exec(
            programs / "prometheus", *words, cwd=folder, stdout=log, stderr=log
        )  # fmt: skip
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as client:
            yield client
    finally:
        process.terminate()
        async with asyncio.timeout(20):
            await process.wait()


async def until(check: Callable[[], Any], what: str) -> Any:
    try:
        async with asyncio.timeout(SECONDS):
            while not (found := await check()):
                await asyncio.sleep(0.2)
            return found
    except TimeoutError:
        raise AssertionError(f"waited in vain for {what}") from None


def questions() -> Iterator[str]:
    """Every question of the dashboard, about every instance."""
    for panel in dashboard()["panels"]:
        yield from (target["expr"].replace("$instance", ".*") for target in panel.get("targets", ()))


async def test_a_prometheus_that_scrapes_loupe_fires_by_its_rules_and_answers_the_dashboard(
    programs: Path, tmp_path: Path
) -> None:
    library = FakeLibrary(FakeGpu())
    with installed(library):
        async with (
            served(StubOllama()) as host,
            loupe(tmp_path, [host]) as product,
            prometheus(programs, tmp_path, product.url.removeprefix("http://")) as there,
            httpx.AsyncClient(base_url=product.url, timeout=30) as client,
        ):

            async def asked(query: str) -> list[Any]:
                answer = await there.get("/api/v1/query", params={"query": query})
                assert answer.status_code == 200, (query, answer.text)
                return list(answer.json()["data"]["result"])

            async def scraped() -> bool:
                try:
                    return bool(await asked('loupe_watched{series="gpu.lost"} == 0'))
                except httpx.TransportError:
                    return False

            await until(scraped, "Prometheus to have looked")
            await client.post("/api/chat", json=CHAT)
            library.gpus[0].errors["*"] = pynvml.NVML_ERROR_GPU_IS_LOST
            firing = await until(lambda: asked('ALERTS{alertname="LoupeGpuLost",alertstate="firing"}'), "the alert")
            assert firing[0]["metric"]["subject"] == "GPU 0" and firing[0]["metric"]["severity"] == "critical"
            told = (await client.get("/loupe/alerts")).json()["alerts"]
            assert [(alert["rule"], alert["subject"]) for alert in told] == [("gpu_lost", "GPU 0")]
            groups = (await there.get("/api/v1/rules")).json()["data"]["groups"]
            healths = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
            assert healths == dict.fromkeys([*map(alert_name, SHIPPED), AWAY], "ok")
            await until(lambda: asked("loupe_requests_total"), "the request to be scraped")
            metrics = (await client.get("/metrics")).text
            for query in questions():
                await asked(query)
                for name in re.findall(r"loupe_[a-z_]+", query):
                    assert f"\n{name}" in metrics, f"{name} is not told: {query}"
