"""`python -m app check`: is this machine right for local models? Through the running instance, or one started for it.

Exit status: 0 nothing fails, 1 something does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from app import __version__

FAILS = 1
ASKED_BY_LOUPE = ("GPU", "model host")  # of which nothing is known where it does not start


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object: checks, a list")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from app.core.checks import Check, Verdict
    from app.services.checking.telling import as_text, in_short

    told = _looked()
    if options.json:
        print(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        checks = [Check(**{**row, "status": Verdict(row["status"])}) for row in told["checks"]]
        print(as_text(checks, told["loupe"]))
        print(in_short(checks))
    return FAILS if any(check["status"] == "fail" for check in told["checks"]) else 0


def _looked() -> dict[str, Any]:
    from app.cli_client import some_instance
    from app.core.errors import LoupeError, SettingsError

    try:
        with some_instance() as instance:
            told = instance.ask("GET", "/loupe/check")
            if instance.for_command:
                for check in told["checks"]:
                    check["found"] = check["found"].replace("(command line)", "(for this command alone)")
            return told
    except SettingsError as error:
        return {"loupe": __version__, "checks": [_bad_settings(error.problems)]}
    except LoupeError as error:
        return {"loupe": __version__, "checks": [*_without_an_instance(error.message)]}


def _bad_settings(problems: Sequence[str]) -> dict[str, Any]:
    from app.core.checks import Check, Verdict

    advice = "Loupe does not start: mend them where they were set, and look again for the rest of the check."
    return asdict(Check("settings", Verdict.FAIL, " ".join(problems), "settings that are allowed", advice))


def _without_an_instance(why: str) -> list[dict[str, Any]]:
    """Loupe itself cannot be asked: what can be seen from here, and that."""
    from app.config_report import effective_table, load_settings
    from app.core.checks import Check, Verdict
    from app.core.hardware import Gpus
    from app.services.checking.system import Surroundings, SystemCheck

    loaded = load_settings()
    rows = [(row.variable, row.value, row.source) for row in effective_table(loaded) if row.source != "default"]

    async def nothing() -> tuple[()]:
        return ()

    around = Surroundings(loaded.settings.data, Gpus, tuple, nothing, lambda: rows, loaded.warnings)
    first = Check(
        "Loupe",
        Verdict.FAIL,
        why,
        "a Loupe that starts",
        "Nobody gets an answer: mend this first. GPU, ports and model hosts are looked at by a Loupe that runs.",
    )
    seen = asyncio.run(SystemCheck(around).run())
    return [asdict(first), *(asdict(check) for check in seen if check.name not in ASKED_BY_LOUPE)]
