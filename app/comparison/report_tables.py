"""A scorecard as JSON, CSV and Markdown. Pure.

The JSON has every figure twice: flat under `variants`, for scripts, and whole under `scorecard`, for reading it back.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from html.parser import HTMLParser

from app.comparison.result_json import Unreadable, from_json, to_json
from app.comparison.results import Estimate, Scorecard, VariantResult
from app.core.errors import BadRequest
from app.core.generation import Json

FORMAT = "loupe-report/1"
DATA_ID = "loupe-report"  # of the element that holds the JSON in a report's HTML
Rows = Mapping[str, Sequence[Json]]  # raw rows of each variant, by its name


def document(card: Scorecard, rows: Rows | None = None) -> dict[str, Json]:
    """What `--json` prints, what a report carries, and what `--rerun` reads."""
    whole: dict[str, Json] = {field.name: to_json(getattr(card, field.name)) for field in fields(card)}
    told: dict[str, Json] = {"format": FORMAT}
    for name in ("id", "family", "depth", "state", "reference", "probe_set", "seed", "seconds", "started_at"):
        told[name] = whole[name]
    told["recommendation"] = whole["recommendation"]
    told["variants"] = [flat(variant) for variant in card.variants]
    told["findings"], told["environment"], told["options"] = whole["findings"], whole["environment"], whole["options"]
    told["scorecard"] = whole
    if rows:
        told["rows"] = {name: list(texts) for name, texts in rows.items()}
    return told


def flat(variant: VariantResult) -> dict[str, Json]:
    """One variant in plain figures: an estimate is its value, beside it its interval. None was not measured."""
    quality, speed, memory = variant.quality, variant.speed, variant.memory
    told: dict[str, Json] = {
        "name": variant.name, "quantization": variant.quantization, "digest": variant.digest, "size": variant.size,
        "bits_per_weight": variant.bits_per_weight, "reference": variant.reference, "aliases": list(variant.aliases),
        "tier": None if variant.tier is None else variant.tier.value,
    }  # fmt: skip
    for name in ("kld", "kld_bound", "same_top", "ppl_ratio", "first_difference"):
        told |= _estimate(name, None if quality is None else getattr(quality, name))
    for name in ("floor", "tokens", "texts", "lost", "retokenised", "rms_delta_p", "kld_p99"):
        told[name] = None if quality is None else getattr(quality, name)
    for name in ("decode_tps", "prefill_tps", "ttft", "load", "joules_per_token"):
        told |= _estimate(name, None if speed is None else getattr(speed, name))
    for name in ("context", "predicted", "band", "measured", "on_gpu"):
        told["context" if name == "context" else f"memory_{name}"] = None if memory is None else getattr(memory, name)
    told["decode_limit"] = to_json(variant.decode_limit)
    told["license"], told["notes"] = variant.license, list(variant.notes)
    return told


def _estimate(name: str, estimate: Estimate | None) -> dict[str, Json]:
    if estimate is None:
        return {name: None, f"{name}_interval": None}
    interval = (
        None if estimate.low is None or estimate.high is None else [to_json(estimate.low), to_json(estimate.high)]
    )
    return {name: to_json(estimate.value), f"{name}_interval": interval}


def read_document(text: str) -> Scorecard:
    """The scorecard in a report: JSON, or the HTML file that carries it. Raises `BadRequest`."""
    if text.lstrip()[:1] == "<":
        text = _embedded(text)
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"this is no report: {error}; give the JSON or the HTML that a comparison wrote") from error
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise BadRequest(f'this is no report: its "format" is not "{FORMAT}"')
    try:
        return from_json(Scorecard, told.get("scorecard"))
    except Unreadable as error:
        raise BadRequest(f"the report is damaged: {error}") from error


class _Finder(HTMLParser):
    """The text of the element with the report's data."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "script" and dict(attrs).get("id") == DATA_ID

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.found.append(data)


def _embedded(text: str) -> str:
    finder = _Finder()
    finder.feed(text)
    if not finder.found:
        raise BadRequest("this page carries no report; give the JSON or the HTML that a comparison wrote")
    return "".join(finder.found)


def csv_table(card: Scorecard) -> str:
    """A row for each variant; an interval is two columns. What a spreadsheet would take for a formula is quoted."""
    rows = [_cells(flat(variant)) for variant in card.variants]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    sheet = io.StringIO()
    writer = csv.DictWriter(sheet, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return sheet.getvalue()


def _cells(told: Mapping[str, Json]) -> dict[str, object]:
    cells: dict[str, object] = {}
    for name, value in told.items():
        if name.endswith("_interval"):
            low, high = value if isinstance(value, list) else (None, None)
            cells |= {f"{name[: -len('_interval')]}_low": low, f"{name[: -len('_interval')]}_high": high}
        else:
            cells[name] = _harmless("; ".join(map(str, value)) if isinstance(value, list) else value)
    return cells


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
