"""Pictures are drawn by a process of their own, from what they carry, and the browser's bundle is made once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from app.backends.chart_process import ChartProcess
from app.comparison.charts import Look, pictures_of
from app.core.errors import StoreError
from tests.unit.comparison.cards import card

POINTS = {"data": {"values": [{"a": 1, "b": "héllo"}]}, "mark": "text", "encoding": {"text": {"field": "b"}}}


@pytest.fixture
def pictures(tmp_path) -> ChartProcess:
    return ChartProcess(tmp_path / "charts", os.environ)


def test_several_specifications_are_drawn_in_order(pictures):
    other = POINTS | {"data": {"values": [{"b": "second"}]}}
    first, second = asyncio.run(pictures.svgs([POINTS, other]))
    assert first.startswith("<svg") and first.endswith("</svg>") and "héllo" in first
    assert "second" in second and "second" not in first
    assert "vl_convert" not in sys.modules


def test_a_picture_longer_than_a_line_may_be_comes_whole(pictures):
    rows = [{"b": f"{index} ü " + "text " * 40} for index in range(60)]
    drawn = asyncio.run(pictures.svg(POINTS | {"data": {"values": rows}}))
    assert len(drawn) > 9000 and drawn.count(" ü text") >= 60 and drawn.endswith("</svg>")


def test_a_png_is_one(pictures):
    assert asyncio.run(pictures.png(POINTS)).startswith(b"\x89PNG\r\n\x1a\n")


def test_a_specification_that_is_none_says_so(pictures):
    with pytest.raises(StoreError, match="could not be drawn"):
        asyncio.run(pictures.svg({"mark": "no such mark", "data": {"values": []}}))


def test_nothing_is_fetched(pictures):
    asked = []

    async def listening() -> None:
        async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.readline())
            writer.close()

        async with await asyncio.start_server(note, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with contextlib.suppress(StoreError):
                await pictures.svg(POINTS | {"data": {"url": f"http://127.0.0.1:{port}/x.json"}})

    asyncio.run(listening())
    assert asked == []


def test_the_bundle_is_made_once(pictures):
    async def twice_at_once() -> list[Path]:
        return list(await asyncio.gather(pictures.bundle(), pictures.bundle()))

    path, same = asyncio.run(twice_at_once())
    assert "vegaEmbed" in path.read_text(encoding="utf-8")
    made = path.stat().st_mtime_ns
    assert asyncio.run(pictures.bundle()) == path == same and path.stat().st_mtime_ns == made
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_all_pictures_of_a_scorecard_are_drawn_and_names_stay_text(pictures):
    evil = "<img src=x onerror=alert(1)>"
    whole = card()
    named = replace(whole, variants=(*whole.variants[:3], replace(whole.variants[3], quantization=evil)))
    specs = [pictures_of(named, look, budget=400 << 20) for look in (Look(width=360), Look(dark=True))]
    drawn = asyncio.run(pictures.svgs([spec for one in specs for spec in one.values()]))
    assert len(drawn) == 12
    for svg in drawn:
        assert svg.startswith("<svg") and svg.endswith("</svg>")
        assert "Q6_K" in svg and "<img" not in svg and "http:" not in svg.replace("http://www.w3.org/", "")
