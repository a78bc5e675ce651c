"""Draws Vega-Lite specifications. Runs as a process of its own: the drawing library takes some 200 MB of memory.

    python -m app.backends.chart_renderer    with one line of JSON on standard input: a list of tasks

A task is {"do": "svg" or "png", "spec": …, "scale": …} or {"do": "bundle", "target": path}. Nothing is fetched from
anywhere: a specification carries its data. Standard output carries {"task": index, "part": text} (PNG in base64), as
many as it takes, or {"error": text}.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import vl_convert

NO_ADDRESSES: list[str] = []  # that data may come from
_GLOBALS = "window.vegaEmbed = vegaEmbed; window.vega = vega; window.vegaLite = vegaLite;"
_PART = 8000  # characters: escaped, a line stays below what a pipe's reader takes
_NICENESS = 10  # somebody is chatting meanwhile


def carry_out(task: Mapping[str, Any]) -> str:
    """The drawing, or "" for the bundle, which is a file. Raises ValueError for a specification that is none."""
    if task["do"] == "svg":
        return str(vl_convert.vegalite_to_svg(task["spec"], allowed_base_urls=NO_ADDRESSES))
    if task["do"] == "png":
        drawn = vl_convert.vegalite_to_png(task["spec"], scale=task["scale"], allowed_base_urls=NO_ADDRESSES)
        return base64.b64encode(drawn).decode()
    target = Path(task["target"])
    unfinished = target.with_name(f"{target.name}.{os.getpid()}.part")
    unfinished.write_text(vl_convert.javascript_bundle(_GLOBALS), encoding="utf-8")
    unfinished.replace(target)
    return ""


def _say(record: dict[str, object]) -> None:
    print(json.dumps(record), flush=True)


def main() -> int:
    """0 after everything was drawn; 1 after an error was told."""
    os.nice(_NICENESS)
    tasks = json.loads(sys.stdin.buffer.readline())
    try:
        for index, task in enumerate(tasks):
            text = carry_out(task)
            for start in range(0, len(text), _PART):
                _say({"task": index, "part": text[start : start + _PART]})
    except (ValueError, OSError) as error:
        _say({"error": str(error).partition("\n")[0]})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
