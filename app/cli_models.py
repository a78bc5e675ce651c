"""`python -m app models`: list, pull, make and rm, through the running instance (or one started for the command).

Exit status: 0 done, 1 it failed or was refused, 130 stopped with Ctrl-C, which ends the job too: what has arrived
stays, and the same command goes on. With `--json` every line on standard output is one JSON object, errors included.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from app.core.errors import LoupeError

if TYPE_CHECKING:
    from app.cli_client import Instance

FAILED, STOPPED = 1, 130
ACTIVE = ("waiting", "running", "paused")
Row = dict[str, Any]


def sentence_of(error: LoupeError | OSError) -> str:
    """What went wrong, for people: of a file, which one."""
    if isinstance(error, LoupeError):
        return error.message
    return f"{error.filename or 'the file'}: {error.strerror or error}"


def add_commands(parser: argparse.ArgumentParser) -> None:
    """The sub-commands of `models`; without one it lists."""
    _add_common(parser, json=False, host="")
    _run_as(parser, _list)
    common = argparse.ArgumentParser(add_help=False)
    # Without defaults of their own: those would undo what is said before the sub-command.
    _add_common(common, json=argparse.SUPPRESS, host=argparse.SUPPRESS)
    commands = parser.add_subparsers(metavar="what")
    _run_as(commands.add_parser("list", help="the models that are there (the default)", parents=[common]), _list)
    pull = commands.add_parser("pull", help="get a model, or go on getting it", parents=[common])
    pull.add_argument("model", help="like llama3.2:3b or hf.co/user/model:Q8_0")
    pull.add_argument("--insecure", action="store_true", help="allow a registry over plain http")
    _run_as(pull, _pull)
    make = commands.add_parser("make", help="make a quantization of an F16, BF16 or F32 model", parents=[common])
    make.add_argument("source", help="the model to make it of")
    make.add_argument("level", nargs="?", default="", help="like Q5_K_M; without it: what can be made")
    _run_as(make, _make)
    remove = commands.add_parser("rm", help="delete a model", parents=[common])
    remove.add_argument("model")
    remove.add_argument("--yes", "-y", action="store_true", help="do not ask")
    _run_as(remove, _remove)


def _add_common(parser: argparse.ArgumentParser, *, json: bool | str, host: str) -> None:
    parser.add_argument("--json", action="store_true", default=json, help="one JSON object a line")
    parser.add_argument("--host", default=host, help="which host, where there are several")


def _run_as(parser: argparse.ArgumentParser, work: Callable[[Instance, argparse.Namespace], int]) -> None:
    parser.set_defaults(command=lambda options: _run(work, options))


def _run(work: Callable[[Instance, argparse.Namespace], int], options: argparse.Namespace) -> int:
    from app.cli_client import Refused, some_instance  # they read the settings, which other commands do not need

    with some_instance() as instance:
        try:
            return work(instance, options)
        except Refused as error:
            _fail(options, error.message)
            return FAILED


def _list(instance: Instance, options: argparse.Namespace) -> int:
    if options.host:
        names = [str(host["name"]) for host in instance.ask("GET", "/loupe/hosts")["hosts"]]
        if options.host not in names:
            _fail(options, f"there is no host {options.host!r}; there is {', '.join(names)}")
            return FAILED
    models = [model for model in instance.ask("GET", "/api/tags").get("models") or [] if _is_on(model, options.host)]
    if options.json:
        for model in models:
            _say(model)
        return 0
    rows = [(str(model["name"]), size(model.get("size") or 0), _level(model)) for model in models]
    print_table(rows)
    if not rows:
        print("no model is here yet; `models pull NAME` gets one", file=sys.stderr)
    return 0


def _is_on(model: Row, host: str) -> bool:
    """A model of the only host is not said to be on it."""
    return not host or host in (model.get("loupe") or {}).get("hosts", [host])


def _level(model: Row) -> str:
    return str((model.get("details") or {}).get("quantization_level") or "")


def _pull(instance: Instance, options: argparse.Namespace) -> int:
    body = {"kind": "pull", "model": options.model, "host": options.host, "insecure": options.insecure}
    return _follow(instance, instance.ask("POST", "/loupe/jobs", body), options)


def _make(instance: Instance, options: argparse.Namespace) -> int:
    if not options.level:
        return _offers(instance, options)
    body = {"kind": "make", "source": options.source, "level": options.level, "host": options.host}
    return _follow(instance, instance.ask("POST", "/loupe/jobs", body), options)


def _offers(instance: Instance, options: argparse.Namespace) -> int:
    offers = instance.ask("GET", "/loupe/models/offers", source=options.source, host=options.host)["offers"]
    if options.json:
        for offer in offers:
            _say(offer)
        return 0
    rows = [
        (offer["level"], size(offer["size"]), offer["refusal"] or _about(offer["seconds"]), offer["name"])
        for offer in offers
    ]
    print_table(rows)
    if not rows:
        print(f"every level that can be made of {options.source} is there", file=sys.stderr)
    return 0


def _remove(instance: Instance, options: argparse.Namespace) -> int:
    asked = {"model": options.model, "host": options.host}
    if not options.yes:
        told = instance.ask("GET", "/loupe/models/removal", **asked)
        if options.json or not sys.stdin.isatty():
            _fail(options, f"{_what_goes(told)}. Say --yes to do that without being asked.")
            return FAILED
        print(f"{_what_goes(told)}. Go on? [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().casefold() not in ("y", "yes"):
            return FAILED
    told = instance.ask("DELETE", "/loupe/models", **asked)
    if options.json:
        _say(told)
    else:
        print(f"Deleted {told['name']} from {told['host']}; {size(told['frees'])} are free.")
    return 0


def _what_goes(told: Row) -> str:
    shared = f"; {', '.join(told['shared_with'])} keeps using the rest" if told["shared_with"] else ""
    loaded = "; it is loaded now" if told["loaded"] else ""
    return f"Deleting {told['name']} from {told['host']} frees {size(told['frees'])}{shared}{loaded}"


# -- following a job ------------------------------------------------------------------------------------------------


def _follow(instance: Instance, job: Row, options: argparse.Namespace) -> int:
    """Tell how far it is until it is over."""
    line = ProgressLine(quiet=options.json)
    try:
        job = to_the_end(instance, job, lambda now: _say(now) if options.json else line.draw(now))
    except KeyboardInterrupt:
        line.end()
        job = instance.ask("DELETE", f"/loupe/jobs/{job['id']}")
        if options.json:
            _say(job)
        else:
            print("Stopped. What has arrived stays; the same command goes on.", file=sys.stderr)
        return STOPPED
    line.end()
    if job["state"] == "done":
        if not options.json:
            print(f"{job['title']}: done")
        return 0
    _fail(options, job["error"] or f"{job['title']} was {job['state']}")
    return FAILED


def to_the_end(instance: Instance, job: Row, tell: Callable[[Row], None]) -> Row:
    with closing(instance.events("/loupe/jobs/events")) as events:
        for now in events:
            if now["id"] != job["id"]:
                continue
            tell(now)
            if now["state"] not in ACTIVE:
                return now
    return instance.ask("GET", f"/loupe/jobs/{job['id']}")  # the feed ends when the server is being stopped


class ProgressLine:
    """One line that is drawn over on a terminal; elsewhere a line for each new sentence."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet, self._last = quiet, ""
        self._drawn = False

    def draw(self, job: Row) -> None:
        if self._quiet or job["state"] not in ACTIVE:
            return
        if sys.stderr.isatty():
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{progress_line(job)[:width]}\x1b[K", end="", file=sys.stderr, flush=True)
            self._drawn = True
        elif job["detail"] != self._last:
            print(job["detail"], file=sys.stderr, flush=True)
        self._last = job["detail"]

    def end(self) -> None:
        if self._drawn:
            print(file=sys.stderr)
            self._drawn = False


def progress_line(job: Row) -> str:
    """What it does, how much of what, how fast and how long yet; what is unknown is left out."""
    parts = [str(job["detail"] or job["title"])]
    if job["total"]:
        parts.append(f"{100 * job['completed'] // job['total']} %")
        if job["kind"] == "pull":
            parts.append(f"{size(job['completed'])} of {size(job['total'])}")
    if job["rate"]:
        parts.append(f"{size(job['rate'])}/s")
    if job["eta"] is not None:
        parts.append(f"{duration(job['eta'])} left")
    return "   ".join(parts)


def size(count: float) -> str:
    """Bytes for people, in powers of 1000 as Ollama's own command line has them."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.{1 if unit == 1e9 else 0}f} {name}"
    return f"{count:.0f} B"


def duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return (
        f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    )


def _about(seconds: float | None) -> str:
    return "time unknown" if seconds is None else f"about {duration(max(1.0, seconds))}"


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """The last column is not padded, figures are at the right of theirs."""
    widths = [max((len(row[at]) for row in rows), default=0) for at in range(len(rows[0]) if rows else 0)]
    for row in rows:
        cells = [
            text.rjust(width) if at == 1 else text.ljust(width)
            for at, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def _say(value: Row) -> None:
    print(json.dumps(value), flush=True)


def _fail(options: argparse.Namespace, sentence: str) -> None:
    if options.json:
        _say({"error": sentence})
    else:
        print(sentence, file=sys.stderr)
