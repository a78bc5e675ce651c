"""`python -m app load MODEL[=SHARE] …`: how many people a host can answer, through the running instance (or one started
for the command). Questions come at their own pace; every time is taken from the moment a question was meant to be sent.

Exit status: 0 done, 1 it failed or was refused, 3 fewer kept to the limits than `--fail-below` says, 130 stopped with
Ctrl-C: what was measured is kept. With `--json` standard output is one JSON object, errors included.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli_models import STOPPED, ProgressLine, print_table, sentence_of, to_the_end
from app.core.errors import BadRequest, LoupeError

if TYPE_CHECKING:
    from app.cli_client import Instance

FAILED, BELOW = 1, 3
PATH = "/loupe/load"
Row = dict[str, Any]
_NAMES = (
    "rate",
    "to_rate",
    "seconds",
    "count",
    "prompt",
    "output",
    "speed",
    "users",
    "context",
    "drain",
    "host",
    "seed",
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="*", metavar="MODEL[=SHARE]", help="a variant, or several with their shares")
    parser.add_argument("--arrivals", choices=("poisson", "constant", "ramp", "recorded"),
                        help="how questions come (poisson: as independent people do)")  # fmt: skip
    parser.add_argument("--rate", type=number, help="requests a second (1); of a ramp: at its start")
    parser.add_argument("--to-rate", type=number, help="of a ramp: at its end")
    parser.add_argument("--seconds", type=number, help="for how long they come (60)")
    parser.add_argument("--count", type=int, help="at most so many")
    parser.add_argument("--prompt", metavar="TOKENS", help="length of the prompts: 128, 64-512, 256~0.6 (128)")
    parser.add_argument("--output", metavar="TOKENS", help="length of the answers, likewise (64)")
    parser.add_argument("--prompts", metavar="FILE", help="your own questions: a line each, JSON lines, or a set")
    parser.add_argument(
        "--chats", action="store_true", help="the questions of your own chats, as long as their answers"
    )
    parser.add_argument("--recording", metavar="FILE", help="JSON lines with at (seconds), prompt, output (tokens)")
    parser.add_argument("--speed", type=number, help="play a recording so many times as fast")
    parser.add_argument("--ttft", type=number, metavar="SECONDS", help="limit: to the first token")
    parser.add_argument("--tpot", type=number, metavar="SECONDS", help="limit: for each further token")
    parser.add_argument("--e2e", type=number, metavar="SECONDS", help="limit: to the end of the answer")
    parser.add_argument("--users", type=int, help="how many different people ask (32)")
    parser.add_argument("--context", type=int, help="tokens of context (the model's own)")
    parser.add_argument("--drain", type=number, metavar="SECONDS", help="wait so long for the last answers (60)")
    parser.add_argument("--host", default="", help="which host, where there are several")
    parser.add_argument("--seed", type=int, help="the same seed asks the same questions at the same moments")
    parser.add_argument("--anyway", action="store_true", help="also where others use the host")
    parser.add_argument("--list", action="store_true", help="the runs that are kept")
    parser.add_argument("--beside", nargs=2, metavar="RUN", help="two kept runs beside each other")
    parser.add_argument("--fail-below", type=number, metavar="SHARE", help="exit with 3 where fewer keep to the limits")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(command=load)


def load(options: argparse.Namespace) -> int:
    from app.cli_client import Refused, some_instance  # they read the settings, which other commands do not need

    try:
        body = None if options.list or options.beside else asked(options)
        with some_instance() as instance:
            if body is not None:
                return _run(instance, body, options)
            return _list(instance, options) if options.list else _beside(instance, options)
    except (Refused, LoupeError, OSError) as error:
        told = sentence_of(error)
        if options.json:
            print(json.dumps({"error": told}))
        print(told.replace("(anyway)", "(--anyway)"), file=sys.stderr)
        return FAILED


def asked(options: argparse.Namespace) -> Row:
    """The body of the request. Raises `BadRequest`, OSError."""
    if not options.models:
        raise BadRequest("say which model gets the load, for example: python -m app load llama3.2:3b", "models")
    limits = {name: getattr(options, name) for name in ("ttft", "tpot", "e2e") if getattr(options, name) is not None}
    if options.fail_below is not None and not limits:
        raise BadRequest("--fail-below needs a limit: --ttft, --tpot or --e2e", "limits")
    body: Row = {"models": dict(map(_share, options.models))}
    body |= {name: value for name in _NAMES if (value := getattr(options, name)) not in (None, "")}
    for name, value in (("limits", limits), ("chats", options.chats), ("anyway", options.anyway)):
        body |= {name: value} if value else {}
    if options.recording:
        body["recording"] = _recording(Path(options.recording))
    if options.arrivals or options.recording:
        body["arrivals"] = options.arrivals or "recorded"
    if options.prompts:
        from app.comparison.question_set import read_questions

        body["questions"] = [question.text for question in read_questions(Path(options.prompts)).questions]
    return body


def _share(word: str) -> tuple[str, float]:
    name, equals, share = word.rpartition("=")
    if not equals:
        return word, 1.0
    try:
        return name, float(share)
    except ValueError:
        raise BadRequest(f"{word[:80]!r}: the share behind = is a number, like {name or 'MODEL'}=3", "models") from None


def number(told: str | float) -> float:
    """Raises ValueError, also for what is no number of JSON's."""
    value = float(told)
    if not math.isfinite(value):
        raise ValueError(told)
    return value


def _recording(file: Path) -> list[Row]:
    """Rows with `at`; those of `/loupe/requests` have `started_at`, `prompt_tokens`, `output_tokens` instead."""
    found = []
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise BadRequest(f"{file.name} is no text in UTF-8; save it as such", "recording") from None
    for place, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            found.append({
                "at": number(row["at"] if "at" in row else row["started_at"]),
                "prompt": int(row.get("prompt") or row.get("prompt_tokens") or 0),
                "output": int(row.get("output") or row.get("output_tokens") or 0),
            })  # fmt: skip
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            raise BadRequest(
                f'line {place} of {file.name} is no request; it needs at least {{"at": seconds}}', "recording"
            ) from None
    if not found:
        raise BadRequest(f"{file.name} has no requests", "recording")
    return found


def _run(instance: Instance, body: Row, options: argparse.Namespace) -> int:
    told, line = instance.ask("POST", PATH, body), ProgressLine(quiet=False)
    path, stopped = f"{PATH}/{told['id']}", False
    try:
        job = to_the_end(instance, told["job"], lambda now: line.draw(_briefly(now)))
    except KeyboardInterrupt:
        instance.ask("POST", f"{path}/cancel")
        job, stopped = {"state": "cancelled", "error": ""}, True
    line.end()
    told = instance.ask("GET", path)
    told.pop("job", None)
    print(json.dumps(told)) if options.json else show(told)
    if stopped:
        return STOPPED
    if job["state"] != "done":
        print(job["error"] or f"the run was {job['state']}", file=sys.stderr)
        return FAILED
    if told["state"] != "done":
        print(told["why"], file=sys.stderr)
        return FAILED
    kept = told["figures"]["kept"]
    return BELOW if options.fail_below is not None and (kept or 0.0) < options.fail_below else 0


def _briefly(job: Row) -> Row:
    """In a log a line for every tenth of the run."""
    if sys.stderr.isatty() or not job["total"]:
        return job
    return {**job, "detail": f"{10 * (10 * job['completed'] // job['total'])} % of {job['total']} asked"}


def show(told: Row) -> None:
    from app.comparison.load_lab.runs import LoadRun
    from app.comparison.load_lab.telling import FIGURES, lines_of, rows_of
    from app.comparison.result_json import from_json

    run = from_json(LoadRun, told)
    for line in lines_of(run):
        print(line)
    print()
    print_table([FIGURES, *rows_of(run.figures)])
    print(f"\nKept as {run.id}: python -m app load --beside {run.id} OTHER")


def _list(instance: Instance, options: argparse.Namespace) -> int:
    told = instance.ask("GET", PATH)
    if options.json:
        print(json.dumps(told))
        return 0
    from app.comparison.load_lab.telling import seconds

    rows: list[tuple[str, ...]] = [("run", "state", "models", "arrivals", "requests", "answered", "TTFT p95")]
    rows += [
        (run["id"], run["state"], " + ".join(run["models"]), run["arrivals"], str(run["requests"]),
         str(run["answered"]), seconds(run["ttft_p95"]))
        for run in told["runs"]
    ]  # fmt: skip
    print_table(rows) if told["runs"] else print("No load run is kept yet.")
    return 0


def _beside(instance: Instance, options: argparse.Namespace) -> int:
    first, second = options.beside
    told = instance.ask("GET", f"{PATH}/{first}/beside/{second}")
    if options.json:
        print(json.dumps(told))
        return 0
    from app.comparison.load_lab.beside import Pair
    from app.comparison.load_lab.telling import BESIDE, paired

    print_table([BESIDE, *(paired(Pair(**pair)) for pair in told["pairs"])])
    for sentence in told["differences"]:
        print(sentence)
    return 0
