"""The report: whole, readable by people and by us again, and harmless whatever a model is called."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from app.comparison.advice import recommend
from app.comparison.report import csv_table, document, html_report, markdown_card, read_document
from app.comparison.report_html import own_ids, style
from app.comparison.report_pairs import beside
from app.comparison.results import DepthSpeed, Estimate, Finding, Separation, Severity, TaskScore
from app.core.errors import BadRequest
from app.models.advisor import Wish
from tests.unit.comparison.cards import MIB, card, near

EVIL = """</script><script>alert(1)</script><img src="http://evil.invalid/x" onerror='alert(2)'>"""


class Drawn:
    """Pictures without the drawing process: the title of each specification, in SVG."""

    def __init__(self) -> None:
        self.asked = 0

    async def svgs(self, specs):
        self.asked += len(specs)
        return [
            '<svg><clipPath id="clip0"></clipPath><g clip-path="url(#clip0)"><text>'
            f"{spec['title']['text']}</text></g></svg>"
            for spec in specs
        ]


class Tree(HTMLParser):
    """Elements, their attributes and all text outside of styles and data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.text = ""
        self._skip = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._skip = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag):
        self._skip = ""

    def handle_data(self, data):
        self.text += "" if self._skip else data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


def advised(**changes):
    made = card(**changes)
    return replace(made, recommendation=recommend(made, Wish(400 * MIB, 4096)))


def report(made, **more) -> str:
    return asyncio.run(html_report(made, Drawn(), **more))


def test_a_report_tells_the_recommendation_every_figure_and_where_it_was_measured():
    made = advised()
    text = Tree(report(made, budget=400 * MIB)).text
    assert made.recommendation is not None and made.recommendation.sentence in text
    for variant in made.variants:
        assert variant.name in text and variant.digest[:12] in text
    known = (
        "0.065 [0.052, 0.077]", "97.8 [96.3, 99.0]", "71.0 [68.9, 73.1]", "2 x EPYC, 16 GiB", "loupe-runtime 0.33.0",
        "questions 1 (sha256 abc)", "Seed", '"num_ctx": 4096', "The reference was made from a 4-bit file.",
        "It does not cover long contexts", "Quality against speed", "Divergence by domain",
    )  # fmt: skip
    for told in known:
        assert told in text, told


def test_a_report_of_a_deep_run_tells_tasks_depths_and_what_could_not_be_told_apart():
    made = advised(depth="deep")
    task = TaskScore("arithmetic", 60, 0.55, 0.6, Estimate(-0.05, -0.12, 0.02), 0.15, 0.31, 0.14, equivalent=False)
    one = replace(made.variants[1], tasks=(task,), depths=(DepthSpeed(2048, near(55.0, 0.02)),), sustained_ratio=0.93)
    a, b = made.variants[1], made.variants[2]
    tie = Separation(a.name, b.name, Estimate(0.1, -0.2, 0.4), separated=False)
    made = replace(made, variants=(made.variants[0], one, *made.variants[2:]), separations=(tie,))
    text = Tree(report(made)).text
    for told in ("arithmetic", "-5.0 % [-12.0 %, 2.0 %]", "0.310", "14.0 %", "not shown", "2,048",
                 "0.93 of its first speed", "Q8_0 and Q6_K cannot be told apart"):  # fmt: skip
        assert told in text, told


def test_each_picture_is_there_for_light_and_for_dark_with_names_of_its_own():
    pictures = Drawn()
    text = asyncio.run(html_report(advised(), pictures, budget=400 * MIB))
    assert pictures.asked == 12
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids)) == 13
    assert set(re.findall(r"url\(#([^)]+)\)", text)) == set(ids) - {"loupe-report"}
    assert text.count('class="light-only"') == text.count('class="dark-only"') == 6


def test_names_inside_a_drawing_are_renamed_wherever_they_are_used():
    svg = '<svg><g id="a-1"/><use xlink:href="#a-1" fill="url(#a-1)"/></svg>'
    assert own_ids(svg, "p") == '<svg><g id="p-a-1"/><use xlink:href="#p-a-1" fill="url(#p-a-1)"/></svg>'


def test_a_report_asks_for_nothing_and_runs_nothing():
    text = report(advised(), rows={"x": [{"text": EVIL}]})
    tree = Tree(text)
    assert [one.get("type") for one in tree.all("script")] == ["application/json"]
    assert not tree.all("link") and not tree.all("img") and not tree.all("iframe")
    assert not [
        attributes for _, attributes in tree.elements if {"src", "href", "onclick", "onerror"} & set(attributes)
    ]
    policy = next(one["content"] for one in tree.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "script-src" not in policy
    assert "@import" not in style() and "url(" not in style() and "$" not in style()


def test_hostile_names_are_text():
    made = advised()
    named = replace(
        made.variants[1], name=EVIL, quantization=EVIL, license=EVIL, notes=(EVIL,), aliases=(EVIL,), types={EVIL: 1.0}
    )
    made = replace(
        made, family=EVIL, reference=EVIL, probe_set=EVIL, variants=(made.variants[0], named),
        findings=(Finding("x", Severity.MISLEADING, EVIL, EVIL, (EVIL,)),), options={EVIL: EVIL},
        environment=replace(made.environment, machine=EVIL, server=EVIL, facts={EVIL: EVIL}),
    )  # fmt: skip
    text = report(made, first=made, rows={EVIL: [EVIL]})
    tree = Tree(text)
    assert len(tree.all("script")) == 1 and not tree.all("img")
    assert EVIL in tree.text
    assert read_document(text).family == EVIL
    for line in markdown_card(made).splitlines():
        assert "<script" not in line and "<img" not in line and not line.startswith("</")


def test_two_of_one_label_are_called_by_their_names_everywhere():
    made = card()
    twin = replace(made.variants[1], name="hf.co/somebody/SmolLM2-GGUF:Q8_0", digest="9" * 64)
    made = replace(made, variants=(*made.variants, twin))
    told = markdown_card(made)
    assert "| hf.co/somebody/SmolLM2-GGUF:Q8_0 |" in told and "| smollm2:135m-instruct-Q8_0 |" in told
    assert "| Q6_K |" in told and "| Q8_0 |" not in told
    assert Tree(report(made)).text.count("hf.co/somebody/SmolLM2-GGUF:Q8_0") >= 3


@pytest.mark.parametrize("form", ["json", "html"])
def test_what_is_written_can_be_read_again_whole(form):
    made = advised()
    text = json.dumps(document(made)) if form == "json" else report(made)
    assert read_document(text) == made


def test_the_json_has_what_scripts_want():
    told = json.loads(json.dumps(document(advised(), {"a": [1]}), allow_nan=False))
    by_name = {one["quantization"]: one for one in told["variants"]}
    q4, f16 = by_name["Q4_K_M"], by_name["F16"]
    assert (q4["kld"], q4["kld_interval"]) == (0.0645, pytest.approx([0.0516, 0.0774]))
    assert q4["kld_bound"] == pytest.approx(0.87 * 0.0645)
    assert (q4["same_top"], q4["same_top_interval"]) == (0.87, pytest.approx([0.855, 0.882]))
    assert (q4["decode_tps"], q4["bits_per_weight"], q4["tier"]) == (71.0, 6.17, "noticeable")
    assert (f16["reference"], f16["kld"], f16["kld_interval"]) == (True, None, None)
    assert q4["memory_measured"] - q4["memory_predicted"] == 6 * MIB
    assert told["recommendation"]["sentence"] and told["rows"] == {"a": [1]} and told["probe_set"]


def test_infinite_ends_are_null_and_come_back():
    made = card()
    endless = replace(
        made.variants[1],
        quality=replace(made.variants[1].quality, first_difference=Estimate(float("inf"), 9.0, float("inf"))),
    )
    made = replace(made, variants=(made.variants[0], endless))
    told = json.loads(json.dumps(document(made), allow_nan=False))
    assert told["variants"][1]["first_difference"] is None
    assert read_document(json.dumps(told)).variants[1].quality.first_difference.value == float("inf")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no report"), ("not json", "no report"), ("[]", "format"), ('{"format": "other"}', "format"),
        ('{"format": "loupe-report/1"}', "damaged"),
        ('{"format": "loupe-report/1", "scorecard": {"id": 3}}', "damaged"),
        pytest.param("[" * 100_000, "no report", id="deep"),
        ("<html><body>hello</body></html>", "carries no report"),
        ('<script id="loupe-report">oops</script>', "no report"),
    ],
)  # fmt: skip
def test_what_is_no_report_says_so(text, why):
    with pytest.raises(BadRequest, match=why):
        read_document(text)


def test_the_table_for_spreadsheets_has_a_row_for_each_variant_and_no_formula():
    made = card()
    named = replace(made.variants[1], name='=HYPERLINK("http://evil.invalid")', notes=("one", "two"))
    rows = list(csv.DictReader(io.StringIO(csv_table(replace(made, variants=(made.variants[0], named))))))
    assert [row["name"][0] for row in rows] == ["s", "'"]
    assert (rows[1]["kld"], rows[1]["kld_low"], rows[1]["notes"]) == ("0.004", "0.0032", "one; two")
    assert rows[0]["kld"] == ""


def test_the_markdown_card_says_what_to_run_and_on_what_it_was_measured():
    made = advised()
    text = markdown_card(made)
    assert made.recommendation is not None and f"**{made.recommendation.sentence}**" in text
    assert "| Q4_K_M | noticeable | 0.065 [0.052, 0.077] |" in text
    assert "2 x EPYC, 16 GiB" in text and "seed 1" in text and "4-bit file" in text


def test_two_measurements_stand_beside_each_other_by_file():
    first = card()
    slower = tuple(
        replace(
            one,
            name=f"other/{one.name}",
            speed=replace(one.speed, decode_tps=near(one.speed.decode_tps.value / 2, 0.03)),
        )
        for one in first.variants
    )
    second = replace(first, variants=slower[:-1], environment=replace(first.environment, machine="1 x Pi"))
    found = beside(first, second)
    assert [pair.label for pair in found.pairs] == [one.quantization for one in first.variants]
    q8, q2 = found.pairs[1], found.pairs[-1]
    assert q8.same_file and q8.quality_agrees is True and q8.speed_ratio is not None
    assert q8.speed_ratio.value == pytest.approx(0.5) and q8.speed_ratio.low < 0.5 < q8.speed_ratio.high
    assert q2.second is None and q2.quality_agrees is None
    assert any("1 x Pi" in text for text in found.differences)
    text = Tree(report(second, first=first)).text
    assert "Beside the first measurement" in text and "in one only" in text and "0.50 [0.47, 0.53]" in text


def test_what_was_not_the_same_is_said():
    first = card()
    changed = replace(
        first.variants[1], digest="f" * 64, quality=replace(first.variants[1].quality, kld=near(0.02, 0.1))
    )
    other_reference = replace(first.variants[0], digest="e" * 64)
    second = replace(
        first, probe_set="questions 2", depth="deep", options={"num_ctx": 8192}, variants=(other_reference, changed),
        environment=replace(first.environment, server="ollama 0.34"),
    )  # fmt: skip
    found = beside(first, second)
    text = " ".join(found.differences)
    for told in (
        "questions were not the same",
        "deep",
        "options",
        "ollama 0.34",
        "reference was not the same file",
        "Q8_0",
    ):
        assert told in text, told
    assert found.pairs[1].quality_agrees is False and not found.pairs[1].same_file
    assert beside(first, first).differences == ()


def test_a_scorecard_that_was_cut_short_has_a_report_too():
    made = card(state="cancelled")
    bare = replace(
        made,
        variants=tuple(replace(one, quality=None, speed=None, memory=None, tier=None) for one in made.variants),
        findings=(),
    )
    text = Tree(report(bare)).text
    assert "cancelled: what was measured so far" in text and "Q4_K_M" in text
    assert read_document(json.dumps(document(bare))) == bare
    assert markdown_card(bare)
