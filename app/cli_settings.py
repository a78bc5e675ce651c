"""`python -m app settings`: what is in force, and where it comes from."""

from __future__ import annotations

import sys

from app.config_report import effective_table, load_settings, markdown_table


def print_settings(*, markdown: bool = False) -> int:
    """The table on standard output, warnings on standard error."""
    if markdown:
        sys.stdout.write(markdown_table())
        return 0
    loaded = load_settings()
    rows = effective_table(loaded)
    name_width = max(len(row.variable) for row in rows)
    value_width = min(48, max(len(row.value) for row in rows))
    for row in rows:
        print(f"{row.variable:<{name_width}}  {row.value:<{value_width}}  {row.source}")
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return 0
