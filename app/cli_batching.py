"""`python -m app batching MODEL`: how many answers at once, or which runtime options, through the running instance (or
one started for the command).

Exit status: 0 done, 1 it failed or was refused, 130 stopped with Ctrl-C: what was measured by then is kept. With
`--json` standard output is one JSON object, errors included.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from app.cli_models import STOPPED, ProgressLine, print_table, to_the_end
from app.core.errors import BadRequest, LoupeError

if TYPE_CHECKING:
    from app.cli_client import Instance

FAILED = 1
_HELD = {"on": True, "off": False}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="with which model, like llama3.2:3b")
    parser.add_argument("--most", type=int, help="up to so many at once (8)")
    parser.add_argument("--shape", action="append", default=[], metavar="PROMPT:ANSWER",
                        help="tokens of prompt and answer, like 64:48; may be given again")  # fmt: skip
    parser.add_argument("--batch", action="append", default=[], type=int, metavar="N",
                        help="a batch to try at the knee; may be given again")  # fmt: skip
    parser.add_argument("--against", action="append", default=[], metavar="OPTIONS",
                        help="an A/B instead: a setup against what is in force, like kv_type=q8_0 or "
                        "threads=4,flash=on; may be given again")  # fmt: skip
    parser.add_argument("--at-once", type=int, help="in an A/B, so many answers together beside one alone")
    parser.add_argument("--rounds", type=int, help="rounds at most (6)")
    parser.add_argument("--host", default="", help="which host, where there are several")
    parser.add_argument("--apply", action="store_true", help="set the embedded runtime up as is recommended")
    parser.add_argument("--json", action="store_true", help="the study as JSON")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from app.cli_client import some_instance  # it reads the settings, which other commands do not need

    try:
        body = _asked(options)
        with some_instance() as instance:
            return _measured(instance, instance.ask("POST", "/loupe/batching", body), options)
    except LoupeError as error:
        if options.json:
            print(json.dumps({"error": error.message}))
        print(error.message, file=sys.stderr)
        return FAILED


def _asked(options: argparse.Namespace) -> dict[str, Any]:
    """Raises `BadRequest`."""
    arms = [_setup(text) for text in options.against]
    body = {
        "model": options.model, "host": options.host, "rounds": options.rounds, "most": options.most,
        "kind": "options" if arms else "slots", "shapes": [_shape(text) for text in options.shape],
        "batches": options.batch, "arms": arms, "at_once": options.at_once,
    }  # fmt: skip
    return {name: value for name, value in body.items() if value not in (None, "", [])}


def _shape(text: str) -> dict[str, int]:
    prompt, found, output = text.partition(":")
    if not (found and _is_count(prompt) and _is_count(output)):
        raise BadRequest(f"{text[:40]!r} is no shape of a request; say tokens of prompt and answer, like 64:48")
    return {"prompt": int(prompt), "output": int(output)}


def _setup(text: str) -> dict[str, Any]:
    """`threads=4,flash=on` as an arm; what a part may be is the server's to say."""
    made: dict[str, Any] = {}
    for part in text.split(","):
        name, found, value = part.strip().partition("=")
        if not found:
            raise BadRequest(f"{part[:40]!r} sets nothing; say it like kv_type=q8_0 or threads=4")
        made[name] = int(value) if _is_count(value) else _HELD.get(value, value)
    return made


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def _measured(instance: Instance, told: dict[str, Any], options: argparse.Namespace) -> int:
    path, line, stopped = f"/loupe/batching/{told['id']}", ProgressLine(quiet=options.json), False
    try:
        job = to_the_end(instance, told["job"], line.draw)
    except KeyboardInterrupt:
        instance.ask("POST", f"{path}/cancel")
        job, stopped = {"state": "cancelled", "error": ""}, True
    line.end()
    study = instance.ask("GET", path)
    print(json.dumps(study, indent=2, ensure_ascii=False)) if options.json else _show(study)
    if stopped:
        print(f"Stopped. What was measured is kept: the study {study['id']} of the batching lab", file=sys.stderr)
        return STOPPED
    if job["state"] != "done":
        print(job["error"] or f"it was {job['state']}", file=sys.stderr)
        return FAILED
    return _applied(instance, path, study) if options.apply else 0


def _applied(instance: Instance, path: str, study: dict[str, Any]) -> int:
    if study["advice"] is None:
        print("nothing to apply: too little was measured to recommend anything", file=sys.stderr)
        return 0
    if not any(value not in (None, "") for value in study["advice"]["setup"].values()):
        print("nothing to apply: it is set so already", file=sys.stderr)
        return 0
    line = ProgressLine(quiet=False)
    job = to_the_end(instance, instance.ask("POST", f"{path}/apply"), line.draw)
    line.end()
    if job["state"] != "done":
        print(job["error"] or f"it was {job['state']}", file=sys.stderr)
    return 0 if job["state"] == "done" else FAILED


def _show(study: dict[str, Any]) -> None:
    for shape in study["asked"]["shapes"] if study["points"] else ():
        print(f"\n{shape['prompt']} → {shape['output']} tokens")
        knees = [knee["slots"] for knee in study["knees"] if knee["shape"] == shape]
        rows = [_slot_row(point, knees) for point in study["points"] if point["shape"] == shape]
        print_table([("at once", "tok/s together", "first token", "each token", ""), *rows])
    if study["batches"]:
        print()
        rows = [(str(one["batch"]), _figure(one["rate"]), _figure(one["ratio"])) for one in study["batches"]]
        print_table([("batch", "tok/s together", "× now"), *rows])
    if study["arms"]:
        print_table([("setup", "decode tok/s", "× now", "quality", "verdict"), *map(_arm_row, study["arms"])])
    advice = study["advice"]
    if advice is not None:
        print(f"\n{advice['sentence']}", *advice["notes"], *study["notes"], sep="\n")
        print(*(f"  {line}" for line in advice["lines"]), sep="\n")


def _slot_row(point: dict[str, Any], knees: list[int]) -> tuple[str, ...]:
    return (
        str(point["slots"]), _figure(point["rate"]), f"{point['ttft']['value']:.2f} s",
        f"{1000 * point['token']['value']:.0f} ms", "knee" if point["slots"] in knees else "",
    )  # fmt: skip


def _arm_row(arm: dict[str, Any]) -> tuple[str, ...]:
    named = {name: value for name, value in arm["setup"].items() if value not in (None, "")}
    setup = ",".join(f"{name}={value}" for name, value in named.items()) or "in force"
    return setup, _figure(arm["decode"]), _figure(arm["decode_ratio"]), arm["tier"] or "", arm["verdict"]


def _figure(told: dict[str, Any] | None) -> str:
    if told is None:
        return "–"
    ends = f" [{told['low']:.3g}–{told['high']:.3g}]" if told["low"] is not None and told["high"] is not None else ""
    return f"{told['value']:.3g}{ends}"
