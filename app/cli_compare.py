"""`python -m app compare MODEL [VARIANT…]`: a scorecard, through the running instance (or one started for the command).

Exit status: 0 done, 1 it failed or was refused, 3 with `--fail-below TIER` where a variant is worse than that (or could
not be measured), 130 stopped with Ctrl-C: what was measured is kept. With `--json` standard output is one JSON object,
errors included; progress goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli_models import STOPPED, ProgressLine, print_table, to_the_end
from app.core.errors import BadRequest, LoupeError
from app.core.measures import Tier

if TYPE_CHECKING:
    from app.cli_client import Instance
    from app.comparison.results import Scorecard

FAILED, BELOW = 1, 3
UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_COUNT = re.compile(r",? (?:text |task )?\d+ of \d+(?= \(step)")
Row = dict[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="*", metavar="MODEL", help="a family, by any name of it, then its variants")
    parser.add_argument("--reference", default="", help="what the others are measured against (most bits)")
    depth = parser.add_mutually_exclusive_group()
    depth.add_argument("--quick", action="store_const", const="quick", dest="depth", help="minutes (the default)")
    depth.add_argument("--deep", action="store_const", const="deep", dest="depth", help="half an hour, with tasks")
    parser.add_argument("--prompts", metavar="FILE", help="your own questions: a line each, JSON lines, or a set")
    parser.add_argument("--budget", type=size, metavar="8GiB", help="memory that the recommendation may use")
    parser.add_argument("--context", type=int, help="tokens of context (4096)")
    parser.add_argument("--use", choices=("chat", "code", "extraction"), help="what the recommendation is for")
    parser.add_argument("--min-tps", type=float, metavar="N", help="least tokens a second")
    parser.add_argument("--host", default="", help="which host, where there are several")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--html", metavar="FILE", help="write the report there")
    parser.add_argument("--fail-below", type=Tier, choices=tuple(Tier), metavar="TIER",
                        help=f"exit with 3 below: {', '.join(Tier)}")  # fmt: skip
    parser.add_argument("--rerun", metavar="REPORT", help="measure what a report measured, and show both")
    parser.set_defaults(command=compare, depth=None)


def size(text: str) -> int:
    """`8GiB`, `8g`, `8589934592`: bytes, in powers of 1024."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no size, like 8GiB")
    return int(float(found[1]) * UNITS[found[2].lower()])


def compare(options: argparse.Namespace) -> int:
    from app.cli_client import Refused, some_instance  # they read the settings, which other commands do not need

    try:
        first = _earlier(options.rerun)
        body = _asked(options, first)
        with some_instance() as instance:
            return _measured(instance, instance.ask("POST", "/loupe/comparisons", body), options, first)
    except (Refused, LoupeError, OSError) as error:
        _fail(options, error.message if isinstance(error, LoupeError) else str(error))
        return FAILED


def _earlier(file: str | None) -> tuple[str, Scorecard] | None:
    """A report's text, and the scorecard in it."""
    if file is None:
        return None
    from app.comparison.report import read_document

    text = Path(file).read_text(encoding="utf-8")
    return text, read_document(text)


def _asked(options: argparse.Namespace, first: tuple[str, Scorecard] | None) -> Row:
    body: Row = {
        "models": options.models, "reference": options.reference, "depth": options.depth, "context": options.context,
        "host": options.host, "budget": options.budget, "use": options.use, "floor": options.min_tps,
    }  # fmt: skip
    if first is not None:
        card = first[1]
        body["models"] = options.models or [variant.name for variant in card.variants]
        body["reference"] = options.reference or card.reference
        body["depth"] = options.depth or card.depth
        body["context"], body["seed"] = options.context or card.options.get("num_ctx"), card.seed
    if options.prompts:
        from app.comparison.question_set import read_questions

        found = read_questions(Path(options.prompts))
        body["question_set"], body["questions"] = found.name, [question.text for question in found.questions]
    if not body["models"]:
        raise BadRequest("say which model to compare, for example: python -m app compare llama3.2:3b", "model")
    return {name: value for name, value in body.items() if value not in (None, "")}


def _measured(instance: Instance, told: Row, options: argparse.Namespace, first: tuple[str, Scorecard] | None) -> int:
    path = f"/loupe/comparisons/{told['id']}"
    line = ProgressLine(quiet=False)
    try:
        job = to_the_end(instance, told["job"], lambda now: line.draw(_briefly(now)))
    except KeyboardInterrupt:
        line.end()
        told = instance.ask("POST", f"{path}/cancel")
        if options.json:
            print(json.dumps(told))
        print("Stopped. What was measured is kept: it can be gone on with under Compare.", file=sys.stderr)
        return STOPPED
    line.end()
    if job["state"] != "done":
        _fail(options, job["error"] or f"the comparison was {job['state']}")
        return FAILED
    told = instance.ask("GET", path)
    if options.html:
        _write_report(instance, path, Path(options.html), first)
    if options.json:
        told.pop("job", None)
        print(json.dumps(told))
    else:
        _show(told, first)
    return _below(told, options)


def _briefly(job: Row) -> Row:
    """In a log a line for every step, not for every text."""
    return job if sys.stderr.isatty() else {**job, "detail": _COUNT.sub("", str(job["detail"]))}


def _write_report(instance: Instance, path: str, file: Path, first: tuple[str, Scorecard] | None) -> None:
    """Raises `Refused`, OSError."""
    from app.cli_client import Refused

    body = {"first": first[0]} if first else None
    status, content = instance.raw("POST" if body else "GET", f"{path}/report", body, format="html")
    if status != 200:
        raise Refused(status, f"the report could not be made: {content[:300].decode('utf-8', 'replace')}")
    file.write_bytes(content)


def _below(told: Row, options: argparse.Namespace) -> int:
    """3 where a variant is worse than what was asked for, or it could not be shown that it is not."""
    if options.fail_below is None:
        return 0
    order = list(Tier)
    limit = order.index(options.fail_below)
    worse = [
        variant["name"]
        for variant in told["variants"]
        if not variant["reference"] and (variant["tier"] is None or order.index(Tier(variant["tier"])) > limit)
    ]
    if worse:
        print(f"below {options.fail_below}: {', '.join(worse)}", file=sys.stderr)
    return BELOW if worse else 0


def _show(told: Row, first: tuple[str, Scorecard] | None) -> None:
    from app.comparison.report import read_document
    from app.comparison.report_pairs import beside
    from app.comparison.report_sections import BESIDE, paired
    from app.comparison.report_words import COLUMNS, rows_of

    card = read_document(json.dumps(told))
    print_table([COLUMNS, *rows_of(card)])
    for finding in card.findings:
        print(f"\n{finding.text} {finding.advice}".rstrip())
    if first is not None:
        print()
        pairs = beside(first[1], card)
        print_table([BESIDE, *(paired(pair) for pair in pairs.pairs)])
        for sentence in pairs.differences:
            print(sentence)
    if card.recommendation is not None:
        print(f"\n{card.recommendation.sentence}")


def _fail(options: argparse.Namespace, sentence: str) -> None:
    if options.json:
        print(json.dumps({"error": sentence}))
    print(sentence, file=sys.stderr)
