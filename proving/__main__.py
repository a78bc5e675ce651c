"""`python -m proving [ROWS…]`: the promises in their full form, their results as files, and the page made from them."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime

from proving import page
from proving.promises import Promise, promises, prove, selected
from proving.results import BUILT, PUBLISHED, read, result_of, write

DESCRIPTION = "Try the promises of docs/reliability.md, each with its negative control."


def main(arguments: Sequence[str]) -> int:
    """0 where every selected promise was kept and every control failed."""
    words = _parser().parse_args(arguments)
    for name in [name for name in os.environ if name.startswith(("LOUPE_", "OLLAMA_"))]:
        del os.environ[name]  # the developer's own settings reach no trial
    if words.page:
        make_page()
        return 0
    try:
        chosen = selected(words.rows)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if words.list:
        for one in chosen:
            print(f"{one.row:>3}  {one.section:<8} {one.name}: {one.figure}")
        return 0
    kept = [_try(one, words.seed, words.short, words.keep_page) for one in chosen]
    if not (words.short or words.keep_page):
        make_page()
    print(f"{sum(kept)} promises kept, {len(kept) - sum(kept)} not", flush=True)
    return 0 if all(kept) else 1


def make_page() -> None:
    """Write docs/reliability.md anew."""
    page.PAGE.write_text(page.render(promises(), read()), encoding="utf-8")


def _try(what: Promise, seed: int, short: bool, keep_page: bool) -> bool:
    print(f"{what.row:>3}  {what.text} … ", end="", flush=True)
    began = datetime.now(UTC)
    try:
        proof = prove(what, seed=seed, short=short)
    except Exception:
        print("BROKEN", flush=True)
        traceback.print_exc()
        return False
    form = " --short" if short else ""
    command = f"make prove SECTION={what.row}" if not short and seed == 1 else f"python -m proving {what.row}"
    command += "" if seed == 1 else f" --seed {seed}"
    result = result_of(proof, seed=seed, command=command + form, began=began)
    write(BUILT, result)
    if not (short or keep_page):
        write(PUBLISHED, result)
    print("kept" if result["kept"] else "NOT KEPT", f"({result['n']} trials, {result['seconds']:g} s)", flush=True)
    for fault in result["faults"]:
        print(f"     {fault}", flush=True)
    return bool(result["kept"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m proving", description=DESCRIPTION)
    parser.add_argument("rows", nargs="*", metavar="ROWS", help="rows, ranges or sections: 8,19 or 1-7 or queue")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (1)")
    parser.add_argument("--short", action="store_true", help="the form that `make test` runs")
    parser.add_argument("--keep-page", action="store_true", help="write build/prove alone, not the page")
    parser.add_argument("--page", action="store_true", help="make the page from the results that are there, no more")
    parser.add_argument("--list", action="store_true", help="say what is promised, and try nothing")
    return parser


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
