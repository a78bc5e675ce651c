"""`python -m app alerts`: what needs somebody now, by the running instance; or its rules for a Prometheus.

Exit status: 0 nothing is open, 1 something is.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

OPEN = 1


def add_options(parser: argparse.ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="alerts, rules and figures as the route tells them")
    how.add_argument(
        "--prometheus", action="store_true", help="print the rules that come with Loupe as Prometheus's (deploy/)"
    )
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    if options.prometheus:
        from app.services.alerting.prometheus import as_rules
        from app.services.alerting.shipped import SHIPPED

        print(as_rules(SHIPPED), end="")
        return 0
    from app.cli_client import NotRunning, find_instance

    instance = find_instance()
    if instance is None:
        raise NotRunning
    told = instance.ask("GET", "/loupe/alerts")
    if options.json:
        print(json.dumps(told, ensure_ascii=False, indent=1))
    open_now = [alert for alert in told["alerts"] if alert["ended"] is None]
    if not options.json:
        _print(open_now, told)
    return OPEN if open_now else 0


def _print(open_now: list[dict[str, Any]], told: dict[str, Any]) -> None:
    for alert in open_now:
        subject = f": {alert['subject']}" if alert["subject"] else ""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(alert["since"]))
        print(f"{alert['severity']}  {alert['title']}{subject}, since {since}\n  {alert['seen']}\n  {alert['advice']}")
    if not open_now:
        print(f"Nothing needs you; {sum(rule['on'] for rule in told['rules'])} rules look.")
