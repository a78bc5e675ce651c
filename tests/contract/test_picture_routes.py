"""The pictures of a comparison as files: those of the page, light and dark, and nothing that is not one of them."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from app.comparison.plan import Asked
from app.comparison.result_json import to_json
from app.comparison.scorecard_store import ScorecardStore
from app.core.colours import DARK, LIGHT
from proving.stand import loupe
from tests.stub_ollama import StubOllama, served
from tests.unit.comparison.cards import MIB, card

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
NAMES = ["tradeoff", "divergence", "memory", "decode", "prefill", "domains"]


async def test_pictures_are_files_by_the_specification_of_the_page(tmp_path: Path) -> None:
    made = card()
    store = ScorecardStore(tmp_path / "data" / "compare" / "scorecards")
    store.write_card(made)
    store.write(made.id, "asked", to_json(Asked(models=(made.reference,), budget=400 * MIB)))
    base = f"/loupe/comparisons/{made.id}/pictures"
    async with (
        served(StubOllama()) as host,
        loupe(tmp_path, [host]) as product,
        httpx.AsyncClient(base_url=product.url, timeout=60) as client,
    ):
        assert (await client.get(base)).json() == {"pictures": NAMES}
        spec = (await client.get(f"{base}/memory", params={"format": "json", "width": "500"})).json()
        assert spec["width"] == 500 and "limit 400.0 MiB" in json.dumps(spec)

        light = await client.get(f"{base}/divergence")
        dark = await client.get(f"{base}/divergence", params={"dark": "1"})
        assert (
            light.headers["content-type"] == "image/svg+xml" and "sandbox" in light.headers["content-security-policy"]
        )
        assert LIGHT.ground in light.text and DARK.ground in dark.text and "Q4_K_M" in dark.text
        png = await client.get(f"{base}/tradeoff", params={"format": "png"})
        assert (
            png.content.startswith(b"\x89PNG") and 'filename="loupe-tradeoff.png"' in png.headers["content-disposition"]
        )

        for path, status, told in (
            (f"{base}/nothing", 400, "there is tradeoff, divergence"),
            (f"{base}/memory?format=gif", 400, "format is one of svg, png, json"),
            (f"{base}/memory?width=9", 400, "width is between 280 and 2000"),
            ("/loupe/comparisons/0000/pictures/memory", 404, "there is no comparison"),
        ):
            answered = await client.get(path)
            assert answered.status_code == status and told in answered.json()["error"], path
