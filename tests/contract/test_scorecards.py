"""Scorecards on the real runtime, which is a host of its own here: traps staged for real, people first, kill -9."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from app.bootstrap import Services
from app.comparison import validity
from app.comparison.results import Scorecard
from app.comparison.subjects import look
from app.core.generation import GenerationRequest
from app.models.gguf_file import read_gguf
from app.services.chat import Caller
from tests.contract.scorecard_process import ASKED, QUESTIONS, services_of
from tests.runtime_process import RuntimeProcess, runtime
from tests.served import ROOT, free_port, http, wait_for
from tests.starter_cache import linked_store, variant_gguf

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("scorecards"), pytest.mark.timeout(600)]
BASE = "smollm2:135m-instruct"
COPY, LIAR, TEMPLATED, STRANGER = f"{BASE}-copy", f"{BASE}-q4_K_S", f"{BASE}-other-q8_0", "stranger:135m-instruct-q8_0"
VERSION = ("0.33.0", "")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    """A host with the whole ladder, and beside it what lies, what is there twice, and a stranger."""
    folder = tmp_path_factory.mktemp("scorecards")
    with runtime(linked_store(folder / "models"), folder / "log") as process:
        assert process.send("POST", "/api/copy", {"source": f"{BASE}-q8_0", "destination": COPY}).status == 200
        create(process, LIAR, {"from": f"{BASE}-q8_0", "system": "Be brief."})
        create(process, TEMPLATED, {"from": f"{BASE}-q8_0", "template": "Q: {{ .Prompt }}\nA:"})
        file = scrambled(variant_gguf("q8_0"), folder / "stranger.gguf")
        digest = f"sha256:{sha256(file.read_bytes()).hexdigest()}"
        assert process.send("POST", f"/api/blobs/{digest}", file.read_bytes()).status == 201
        create(process, STRANGER, {"files": {"m.gguf": digest}, "template": "{{ .Prompt }}"})
        yield process


def create(process: RuntimeProcess, name: str, body: dict) -> None:
    answer = process.send("POST", "/api/create", {"model": name, "stream": False, **body})
    assert answer.status == 200, answer


def scrambled(source: Path, target: Path) -> Path:
    """The same model with the rows of three layers' down projections in the opposite order: the same shape and the same
    formats, and it says other things."""
    content = bytearray(source.read_bytes())
    file = read_gguf(source)
    for tensor in file.tensors:
        if tensor.name in ("blk.12.ffn_down.weight", "blk.16.ffn_down.weight", "blk.20.ffn_down.weight"):
            start, size = tensor.offset, tensor.nbytes
            rows = tensor.shape[1]
            row = size // rows
            block = bytes(content[start : start + size])
            content[start : start + size] = b"".join(block[at * row : (at + 1) * row] for at in reversed(range(rows)))
    target.write_bytes(content)
    return target


@asynccontextmanager
async def started(data: Path, host: RuntimeProcess) -> AsyncIterator[Services]:
    services = services_of(data, host.url)
    await services.start()
    try:
        yield services
    finally:
        await services.stop()


async def ended(services: Services, card: Scorecard) -> Scorecard:
    while (job := services.comparisons.job(card.id)) is not None and job.active:
        await asyncio.sleep(0.05)
    return services.comparisons.get(card.id)


def codes(card: Scorecard, name: str = "") -> set[str]:
    return {finding.code for finding in card.findings if not name or name in finding.variants}


async def test_nothing_is_said_of_the_clean_ladder_and_each_trap_is_seen_before_anything_is_measured(
    tmp_path: Path, host: RuntimeProcess
) -> None:
    async with started(tmp_path, host) as services:
        backend = services.pool.backend(services.pool.statuses()[0].address.name)
        levels = ("fp16", "q8_0", "q6_K", "q5_K_M", "q4_K_M", "q4_0", "q3_K_M", "q2_K")
        ladder = await look(backend, [f"{BASE}-{level}" for level in levels])
        assert validity.before(ladder, 0, VERSION) == ()
        staged = await look(backend, [f"{BASE}-fp16", f"{BASE}-q8_0", COPY, LIAR, TEMPLATED, STRANGER])
    found = {(finding.code, name) for finding in validity.before(staged, 0, VERSION) for name in finding.variants}
    assert ("same-file", COPY) in found and ("same-file", f"{BASE}-q8_0") in found
    assert ("label-lies", LIAR) in found
    assert ("other-template", TEMPLATED) in found
    assert ("other-template", STRANGER) in found
    assert {name for code, name in found if code == "label-lies"} == {LIAR}
    old = validity.before(ladder, 0, ("0.11.4", ""))
    assert [finding.code for finding in old] == ["server-too-old"] and "0.12.11" in old[0].advice


async def test_a_scorecard_end_to_end_with_a_stranger_in_it_and_a_question_that_is_too_long(
    tmp_path: Path, host: RuntimeProcess
) -> None:
    long = "Please read this. " + "It was a long day by the river. " * 180
    asked = replace(ASKED, models=(*ASKED.models, STRANGER), questions=(*QUESTIONS[:4], long))
    async with started(tmp_path, host) as services:
        card = await ended(services, await services.comparisons.begin(asked))
        assert card.state == "done", services.comparisons.job(card.id)
        by_name = {variant.name: variant for variant in card.variants}
        reference, close, stranger = by_name[f"{BASE}-q8_0"], by_name[f"{BASE}-q4_0"], by_name[STRANGER]
        assert reference.reference and reference.quality is None
        assert close.quality is not None and stranger.quality is not None
        assert close.quality.floor == stranger.quality.floor == 0.0
        assert close.quality.kld.value < stranger.quality.kld.value and stranger.quality.same_top.value < 0.6
        assert {"not-the-same-model", "other-template"} <= codes(card, STRANGER)
        assert {"prompt-over-context", "few-texts", "reference-quantized"} <= codes(card)
        assert not codes(card, f"{BASE}-q4_0") - {"positions-lost"}
        for variant in card.variants:
            assert variant.speed and variant.speed.decode_tps and variant.speed.load and variant.speed.ttft
            assert variant.memory and variant.memory.measured and variant.memory.predicted
        assert card.recommendation is not None and card.separations
        rows = await services.comparisons.rows(card.id, f"{BASE}-q4_0")
        assert len(rows) == close.quality.tokens and all(len(row.variant_top) == 20 for row in rows)
    async with started(tmp_path, host) as services:
        assert services.comparisons.get(card.id) == card  # read back from the disk, figure by figure


async def test_people_go_first_it_can_be_paused_and_what_was_measured_is_kept_when_it_is_cancelled(
    tmp_path: Path, host: RuntimeProcess
) -> None:
    async with started(tmp_path, host) as services:
        card = await services.comparisons.begin(ASKED)
        name = services.pool.statuses()[0].address.name
        while services.queue.activity(name)[0] == 0:
            await asyncio.sleep(0.01)
        body = {"model": f"{BASE}-q8_0", "prompt": "Say hello.", "options": {"num_predict": 4, "num_ctx": 512}}
        caller = Caller(flow="page", trace=services.telemetry.trace())
        async with aclosing(services.chat.ask(GenerationRequest("generate", body), caller)) as chunks:
            async for _ in chunks:
                assert services.queue.activity(name)[0] <= 1  # nothing of the comparison runs beside it
        assert services.comparisons.pause(card.id).state == "paused"
        assert services.comparisons.get(card.id).state == "paused"
        while services.queue.activity(name)[0]:
            await asyncio.sleep(0.01)
        given = services.queue.activity(name)[1]
        async with aclosing(services.chat.ask(GenerationRequest("generate", body), caller)) as chunks:
            assert [chunk async for chunk in chunks][-1].done
        assert services.queue.activity(name)[1] == given + 1  # that question, and nothing of the comparison
        services.comparisons.resume(card.id)
        while not any(one.speed for one in services.comparisons.get(card.id).variants):
            await asyncio.sleep(0.05)
        stopped = await services.comparisons.cancel(card.id)
        assert stopped.state == "cancelled" and any(one.speed for one in stopped.variants)
        assert services.queue.activity(name)[0] == 0
        await services.comparisons.delete(card.id)
        assert services.comparisons.list() == () and not list((tmp_path / "compare" / "scorecards").glob("2*"))


def test_a_scorecard_killed_in_the_middle_goes_on_after_the_next_start_and_ends_with_the_same_figures(
    tmp_path: Path, host: RuntimeProcess
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir(mode=0o700)
    with process(killed, host) as first:
        assert first.stdout is not None
        for line in first.stdout:
            if "q4_0: quality, text 2" in line:
                break
        first.kill()
    assert first.returncode == -9
    did, resumed = to_the_end(killed, host)
    assert "q4_0: quality" in did[0]  # at the step it was at, and not at the beginning
    assert not any("round 1" in line for line in did)
    _, straight = to_the_end(whole, host)
    assert resumed["state"] == straight["state"] == "done"
    assert resumed["figures"] == straight["figures"]


def to_the_end(data: Path, host: RuntimeProcess) -> tuple[list[str], dict]:
    """What the process did, and what it ended with."""
    with process(data, host) as run:
        lines = [line for line in run.communicate(timeout=500)[0].splitlines() if line.startswith((BASE, "{"))]
    return lines[:-1], json.loads(lines[-1])


def process(data: Path, host: RuntimeProcess) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.contract.scorecard_process", str(data), host.url], cwd=ROOT, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip


# -- the command line and the routes --------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path, host: RuntimeProcess) -> Iterator[tuple[str, dict[str, str]]]:
    """A Loupe over the host; its address, and the environment of commands that attach to it."""
    data, port = tmp_path / "data", free_port()
    data.mkdir(mode=0o700)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LOUPE_", "OLLAMA_"))}
    environment = clean | {"LOUPE_DATA": str(data), "OLLAMA_HOST": host.url, "LOUPE_PORT": str(port)}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.contract.scorecard_process", "serve"], cwd=ROOT, env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as app:  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        try:
            wait_for("Loupe", lambda: http(f"{url}/readyz")[0] == 200, 90)
            yield url, environment
        finally:
            app.kill()


def told(url: str, method: str, path: str, body: object = None) -> tuple[int, dict]:
    status, content = http(url + path, body, method=method)
    return status, json.loads(content)


def test_the_command_line_measures_reports_and_says_by_its_status_what_is_too_far_off(
    tmp_path: Path, served: tuple[str, dict[str, str]]
) -> None:
    url, environment = served
    prompts, page = tmp_path / "mine.txt", tmp_path / "report.html"
    prompts.write_text("\n".join(QUESTIONS[:4]))

    def compare(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "app", "compare", *words], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=400,
        )  # fmt: skip

    run = compare(
        f"{BASE}-q8_0", "q4_0", "--prompts", str(prompts), "--context", "512", "--budget", "8GiB", "--min-tps", "0.01",
        "--json", "--html", str(page), "--fail-below", "very close",
    )  # fmt: skip
    assert run.returncode == 3, run.stderr
    assert f"below very close: {BASE}-q4_0" in run.stderr and "step 1 of" in run.stderr
    report = json.loads(run.stdout)
    reference, variant = report["variants"]
    assert (reference["name"], reference["reference"], reference["kld"]) == (f"{BASE}-q8_0", True, None)
    assert (variant["name"], variant["quantization"], len(variant["digest"])) == (f"{BASE}-q4_0", "Q4_0", 64)
    low, high = variant["kld_interval"]
    assert 0 < variant["kld_bound"] <= variant["kld"] and low <= variant["kld"] <= high
    assert variant["same_top_interval"][0] <= variant["same_top"] <= variant["same_top_interval"][1]
    assert variant["bits_per_weight"] == pytest.approx(5.35, abs=0.01) and variant["decode_tps"] > 0
    assert report["recommendation"]["variant"] == f"{BASE}-q8_0" and report["recommendation"]["sentence"]
    assert "<html" in page.read_text()

    (row,) = told(url, "GET", "/loupe/comparisons")[1]["comparisons"]
    path = f"/loupe/comparisons/{row['id']}"
    assert row["state"] == "done" and told(url, "GET", path)[1]["variants"] == report["variants"]
    rows = told(url, "GET", f"{path}/rows?variant={BASE}-q4_0")[1]
    assert len(rows["rows"]) == variant["tokens"] and len(rows["texts"]) == 4
    assert http(f"{url}{path}/report?format=csv")[1].startswith(b"name,")
    both = http(f"{url}{path}/report?format=html", {"first": run.stdout}, method="POST")[1]
    assert b"Beside the first measurement" in both
    assert told(url, "GET", f"{path}/report?format=pdf")[0] == 400
    assert told(url, "POST", f"{path}/resume")[0] == 400
    assert told(url, "DELETE", path) == (200, {"deleted": row["id"]})
    assert told(url, "GET", path)[0] == 404

    alone = compare(f"{BASE}-q8_0", COPY, "--json")
    assert alone.returncode == 1 and "one and the same file" in json.loads(alone.stdout)["error"]
    assert compare("nobody:1b").returncode == 1
    for body in ({}, {"models": []}, {"models": ["x"], "colour": "red"}, {"models": ["x"], "context": "long"}):
        assert told(url, "POST", "/loupe/comparisons", body)[0] == 400
    assert told(url, "POST", "/loupe/comparisons", {"models": ["nobody:1b"]})[0] == 404
