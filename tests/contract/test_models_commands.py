"""`python -m app models` and the routes behind it: a running Loupe over a host that is not its own, and a registry."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.model_work import ThreadedRegistry, registry_in_a_thread
from tests.runtime_process import FP16, RuntimeProcess, install_recorded, runtime
from tests.served import ROOT, Served, gone, served_app, wait_for
from tests.served import http as ask
from tests.stub_registry import Answer

pytestmark = [pytest.mark.xdist_group("models commands"), pytest.mark.timeout(180)]
WEIGHTS = 3_000_000


def command(data: Path, host: str, *arguments: str) -> subprocess.Popen[str]:
    """`python -m app models …` on a data folder."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LOUPE_", "OLLAMA_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "app", "models", *arguments], cwd=ROOT, text=True,
        env=clean | {"LOUPE_DATA": str(data), "OLLAMA_HOST": host},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=_heeds_ctrl_c,
    )  # fmt: skip


def _heeds_ctrl_c() -> None:
    """A shell starts what it runs in the background with this signal ignored, and that is handed down."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class Place:
    """A Loupe, the host it uses, and a registry."""

    app: Served
    host: RuntimeProcess
    registry: ThreadedRegistry
    data: Path

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return command(self.data, self.host.url, *arguments)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        status, content = ask(self.app.url + path, body, method=method)
        return status, json.loads(content)

    def names(self) -> set[str]:
        return {json.loads(line)["name"] for line in self.run("list", "--json")[1].splitlines()}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("commands")
    install_recorded(folder / "models", "registry.ollama.ai__library__smollm2__135m-instruct-fp16")
    with (
        registry_in_a_thread() as registry,
        runtime(folder / "models", folder / "log") as host,
        served_app(folder / "data", OLLAMA_HOST=host.url) as app,
    ):
        app.wait_ready()
        yield Place(app, host, registry, folder / "data")


def test_a_model_is_pulled_listed_and_removed(place: Place) -> None:
    name, _ = place.registry.publish("one", WEIGHTS)
    shown = name.removeprefix("http://")
    status, out, err = place.run("pull", name)
    assert (status, out) == (0, f"Getting {shown}: done\n") and "Downloading" in err
    status, out, _ = place.run("--host", "ollama")
    assert status == 0 and shown in out and "F16" in out
    status, out, _ = place.run("--json", "list", "--host", "attic")
    assert (status, json.loads(out)) == (1, {"error": "there is no host 'attic'; there is ollama"})
    status, _, err = place.run("rm", shown)
    assert status == 1 and f"Deleting {shown} from ollama frees 3 MB" in err and "--yes" in err
    status, out, _ = place.run("rm", shown, "--yes", "--json")
    told = json.loads(out)
    assert status == 0 and told["name"] == shown and told["frees"] >= WEIGHTS and told["shared_with"] == []
    assert shown not in place.names()


def test_with_json_every_line_is_the_job_and_the_bytes_only_rise(place: Place) -> None:
    name, made = place.registry.publish("lines", WEIGHTS)
    status, out, err = place.run("pull", "--json", name)
    jobs = [json.loads(line) for line in out.splitlines()]
    assert status == 0 and err == "" and jobs[-1]["state"] == "done"
    counted = [job["completed"] for job in jobs]
    whole = sum(layer.size for layer in (made.config, *made.layers))
    assert counted == sorted(counted) and counted[-1] == jobs[-1]["total"] == whole
    assert {job["id"] for job in jobs} == {jobs[0]["id"]} and jobs[0]["host"] == "ollama"


def test_ctrl_c_ends_the_job_at_the_host_and_the_same_command_goes_on(place: Place) -> None:
    name, made = place.registry.publish("held", WEIGHTS)
    held = Answer(hold=WEIGHTS // 2)
    place.registry.registry.tell(f"storage {made.weights.digest}", held)
    process = place.start("pull", name)
    wait_for("half of it to be sent", held.reached.is_set)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "the same command goes on" in err
    wait_for("the host to hang up", held.left.is_set)
    job = place.ask("GET", "/loupe/jobs")[1]["jobs"][0]
    assert (job["state"], job["kind"]) == ("cancelled", "pull")
    assert place.run("pull", name)[0] == 0
    assert place.registry.registry.sent[made.weights.digest] < 2 * WEIGHTS


def test_what_can_be_made_is_listed_and_made(place: Place) -> None:
    status, out, _ = place.run("make", FP16)
    assert status == 0
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert "about" in rows["Q5_K_M"] and "smollm2:135m-instruct-q5_K_M" in rows["Q5_K_M"]
    offers = place.ask("GET", f"/loupe/models/offers?source={FP16}")[1]["offers"]
    assert [offer["level"] for offer in offers] == list(rows)
    status, out, err = place.run("make", FP16, "Q4_0")
    assert (status, out) == (0, f"Making Q4_0 of {FP16}: done\n"), err
    assert "Quantizing to Q4_0" in err and "Sending it to ollama" in err
    assert "smollm2:135m-instruct-q4_0" in place.names()
    status, out, _ = place.run("make", "--json", FP16, "q4_0")
    assert status == 1 and "there is already a model" in json.loads(out.splitlines()[-1])["error"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pull", "a b"), "is no model name"),
        (("pull", "--host", "attic", "m"), "there is no host 'attic'; there is ollama"),
        (("make", FP16, "Q9"), "is none of the levels that can be made: Q8_0"),
        (("make", "nobody"), "model 'nobody:latest' not found"),
        (("rm", "nobody", "--yes"), "model 'nobody:latest' not found"),
    ],
)
def test_what_is_refused_is_said_in_one_line_with_status_1(
    place: Place, arguments: tuple[str, ...], words: str
) -> None:
    status, out, err = place.run(*arguments)
    assert status == 1 and out == "" and words in err and len(err.splitlines()) == 1


def test_with_json_what_is_refused_is_a_line_of_json(place: Place) -> None:
    status, out, err = place.run("rm", "nobody", "--yes", "--json")
    assert (status, err) == (1, "") and json.loads(out) == {"error": "model 'nobody:latest' not found"}


def test_the_routes_say_what_is_wrong(place: Place) -> None:
    assert place.ask("POST", "/loupe/jobs", {"kind": "steal"}) == (400, {"error": 'kind must be "pull" or "make"'})
    assert place.ask("POST", "/loupe/jobs", ["pull"]) == (400, {"error": "the body must be a JSON object"})
    assert place.ask("POST", "/loupe/jobs", {"kind": "pull", "model": 7}) == (400, {"error": "model must be a string"})
    assert place.ask("GET", "/loupe/jobs/999") == (404, {"error": "there is no job 999"})
    assert place.ask("DELETE", "/loupe/jobs/999") == (404, {"error": "there is no job 999"})
    assert place.ask("GET", "/loupe/models/removal?model=nobody")[0] == 404


def test_a_failed_job_says_why_and_is_tried_again(place: Place) -> None:
    name, made = place.registry.publish("late", WEIGHTS)
    place.registry.registry.tell("manifest", Answer(status=404, body=b"{}"))
    job = place.ask("POST", "/loupe/jobs", {"kind": "pull", "model": name})[1]
    route = f"/loupe/jobs/{job['id']}"
    failed = wait_for(
        "the job to end", lambda: place.ask("GET", route)[1]["state"] == "failed" and place.ask("GET", route)
    )
    assert failed[1]["error"] == "pull model manifest: file does not exist"
    assert place.ask("POST", f"{route}/retry")[0] == 202
    wait_for("the second try", lambda: place.ask("GET", route)[1]["state"] == "done")
    assert place.ask("POST", f"{route}/retry")[0] == 400
    assert made.weights.size == WEIGHTS


def test_the_feed_tells_every_job_and_ends_when_its_reader_leaves(place: Place) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(place.app.url.rpartition(":")[2]), timeout=20)
    connection.request("GET", "/loupe/jobs/events")
    feed = connection.getresponse()
    assert feed.headers["content-type"].startswith("text/event-stream")
    name, _ = place.registry.publish("fed", WEIGHTS)
    job = place.ask("POST", "/loupe/jobs", {"kind": "pull", "model": name})[1]
    for line in feed:
        if line.startswith(b"data: ") and (told := json.loads(line[6:]))["id"] == job["id"] and told["state"] == "done":
            break
    feed.close()
    connection.close()


def test_without_a_loupe_one_is_started_for_the_command_and_ended_with_it(place: Place, tmp_path: Path) -> None:
    process = command(tmp_path / "data", place.host.url, "list", "--json")
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0 and FP16 in {json.loads(line)["name"] for line in out.splitlines()}
    assert "starting it for this command" in err
    assert not (tmp_path / "data" / "instance.json").exists()


def test_what_a_killed_loupe_had_not_finished_is_listed_and_gone_on_with(place: Place, tmp_path: Path) -> None:
    name, made = place.registry.publish("killed", WEIGHTS)
    held = Answer(hold=WEIGHTS // 2)
    place.registry.registry.tell(f"storage {made.weights.digest}", held)
    with served_app(tmp_path / "data", OLLAMA_HOST=place.host.url) as app:
        app.wait_ready()
        assert ask(f"{app.url}/loupe/jobs", {"kind": "pull", "model": name})[0] == 202
        wait_for("half of it to be sent", held.reached.is_set)
        family = app.kill()
    wait_for("it to be gone", lambda: gone(family))
    with served_app(tmp_path / "data", OLLAMA_HOST=place.host.url) as app:
        app.wait_ready()
        (job,) = json.loads(ask(f"{app.url}/loupe/jobs")[1])["jobs"]
        assert job["state"] == "interrupted" and job["model"] == name.removeprefix("http://")
        assert ask(f"{app.url}/loupe/jobs/{job['id']}/retry", method="POST")[0] == 202
        wait_for("the pull", lambda: json.loads(ask(f"{app.url}/loupe/jobs/{job['id']}")[1])["state"] == "done")
        assert app.terminate() == 0
    assert json.loads((tmp_path / "data" / "unfinished-jobs.json").read_text()) == []
