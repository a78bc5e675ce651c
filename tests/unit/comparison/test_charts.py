"""The pictures of a scorecard: nothing is left out, covered or told by colour alone, and nothing of it is code."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from app.comparison.chart_parts import Look, label_places, labels_of, log_domain, log_ticks
from app.comparison.charts import pictures_of
from app.comparison.results import Estimate
from app.core.colours import DARK, LIGHT
from tests.unit.comparison.cards import LADDER, MIB, card, near

LOOKS = (Look(), Look(dark=True), Look(width=360, ground=True))
NAMES = ["tradeoff", "divergence", "memory", "decode", "prefill", "domains"]


def rows(spec) -> list[dict]:
    return [row for layer in spec["layer"] for row in layer["data"]["values"]]


def texts(spec) -> str:
    return json.dumps(spec)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("look", LOOKS)
def test_a_whole_scorecard_has_all_pictures(look):
    drawn = pictures_of(card(), look, budget=400 * MIB)
    assert list(drawn) == NAMES
    for spec in drawn.values():
        assert json.loads(json.dumps(spec, allow_nan=False)) == spec
        assert spec["description"] and spec["title"]["text"]
        assert spec["width"] == (look.width or "container")


def test_what_was_not_measured_has_no_picture():
    bare = tuple(replace(one, quality=None, speed=None, memory=None) for one in card().variants)
    assert pictures_of(card(variants=bare)) == {}
    silent = tuple(replace(one, speed=None) for one in card().variants)
    assert list(pictures_of(card(variants=silent))) == ["divergence", "memory", "domains"]


def test_every_variant_is_named_with_its_figures_and_interval():
    drawn = pictures_of(card(), budget=400 * MIB)
    for label, *_ in LADDER:
        for name in NAMES:
            assert f'"label": "{label}"' in texts(drawn[name]), (label, name)
    told = {row["label"]: row["told"] for row in rows(drawn["divergence"]) if "told" in row}
    assert told["Q8_0"] == "0.0040 [0.0032, 0.0048], at least 0.0035"
    cross = next(row for row in rows(drawn["tradeoff"]) if row.get("label") == "Q4_K_M" and "x1" in row)
    assert (cross["x1"], cross["x2"]) == pytest.approx((71 * 0.97, 71 * 1.03))
    assert (cross["y1"], cross["y2"]) == pytest.approx((0.0645 * 0.8, 0.0645 * 1.2))


def test_the_front_is_what_nothing_beats_in_both():
    spec = pictures_of(card())["tradeoff"]
    line = next(layer for layer in spec["layer"] if layer["mark"]["type"] == "line")
    assert [(row["x"], row["y"]) for row in line["data"]["values"]] == [(61.0, 0.0040), (71.0, 0.0645), (79.0, 0.278)]
    grey = {row["label"] for row in rows(spec) if row.get("fill") == "transparent"}
    assert grey == {"Q6_K", "Q5_K_M", "Q3_K_M", "Q2_K"}
    assert all(row["colour"] == LIGHT.muted for row in rows(spec) if row.get("label") in grey and "colour" in row)
    assert "Q6_K, Q5_K_M" in " ".join(spec["title"]["subtitle"])


def test_a_difference_inside_both_intervals_dominates_nothing():
    whole = card()
    twin = replace(
        whole.variants[1],
        name="twin",
        quantization="TWIN",
        quality=replace(whole.variants[1].quality, kld=near(0.0041, 0.2)),
    )
    spec = pictures_of(replace(whole, variants=(whole.variants[0], whole.variants[1], twin)))["tradeoff"]
    assert not [row for row in rows(spec) if row.get("fill") == "transparent"]
    assert "None is worse" in " ".join(spec["title"]["subtitle"])


def test_logarithmic_axes_say_so_and_clip_nothing():
    for name, channel in (("tradeoff", "y"), ("divergence", "x")):
        spec = pictures_of(card())[name]
        axes = [layer["encoding"][channel] for layer in spec["layer"] if "scale" in layer["encoding"].get(channel, {})]
        assert axes and all(axis["scale"]["type"] == "log" and "log" in axis["axis"]["title"] for axis in axes)
        low, high = axes[0]["scale"]["domain"]
        assert low < 0.0032 and high > 0.457 * 1.2


def test_the_noise_floor_is_drawn_where_there_is_one_and_told_where_there_is_none():
    whole = card()
    noisy = tuple(replace(one, quality=one.quality and replace(one.quality, floor=0.002)) for one in whole.variants)
    spec = pictures_of(replace(whole, variants=noisy))["divergence"]
    assert {"x": 0.002} in rows(spec) and "0.0020" in " ".join(spec["title"]["subtitle"])
    assert "exactly 0" in " ".join(pictures_of(whole)["divergence"]["title"]["subtitle"])


def test_the_limit_of_the_machine_is_drawn_into_the_memory():
    spec = pictures_of(card(), budget=400 * MIB)["memory"]
    assert {"x": 400.0, "text": "limit 400.0 MiB"} in rows(spec)
    parts = [row for row in rows(spec) if row.get("label") == "Q4_0" and "part" in row]
    assert [row["part"] for row in parts] == ["weights", "kv", "compute", "output"]
    assert all(one["to"] == other["from"] for one, other in zip(parts, parts[1:], strict=False))
    assert parts[-1]["to"] == pytest.approx(87 + 90 + 40 + 1)
    assert not [row for row in rows(pictures_of(card())["memory"]) if "limit" in str(row.get("text"))]


def test_a_limit_far_beyond_the_bars_is_told_and_leaves_them_readable():
    spec = pictures_of(card(), budget=20 * 1024 * MIB)["memory"]
    assert not [row for row in rows(spec) if "limit" in str(row.get("text"))]
    assert "20.0 GiB, lies far beyond" in " ".join(spec["title"]["subtitle"])
    assert max(row["to"] for row in rows(spec) if "to" in row) > 100  # MiB: the unit is that of the bars


def test_a_divergence_of_exactly_nothing_is_drawn_too():
    whole = card()
    same = replace(
        whole.variants[1],
        quality=replace(whole.variants[1].quality, kld=Estimate(0.0, 0.0, 0.0), kld_bound=Estimate(0.0)),
    )
    for spec in pictures_of(replace(whole, variants=(whole.variants[0], same, whole.variants[2]))).values():
        json.dumps(spec, allow_nan=False)
    wild = replace(same, quality=replace(same.quality, kld=Estimate(0.1, 0.0, float("inf"))))
    for spec in pictures_of(replace(whole, variants=(whole.variants[0], wild))).values():
        json.dumps(spec, allow_nan=False)


@pytest.mark.parametrize(("dark", "palette"), [(False, LIGHT), (True, DARK)])
def test_the_figures_on_the_map_can_be_read(dark, palette):
    cells = [row for row in rows(pictures_of(card(), Look(dark=dark))["domains"]) if "colour" in row]
    assert min(contrast(row["colour"], palette.text) for row in cells) >= 4.5
    assert {row["text"] for row in cells if row["label"] == "Q2_K"} >= {"228"}


def test_two_of_one_label_go_by_their_names_and_long_names_are_cut():
    whole = card()
    twin = replace(whole.variants[1], name="hf.co/somebody/with-a-very-long-name-GGUF:Q8_0")
    labels = labels_of(replace(whole, variants=(*whole.variants, twin)))
    assert labels[twin.name] == "…ery-long-name-GGUF:Q8_0"[-21:].rjust(22, "…")
    assert labels[whole.variants[1].name].endswith("Q8_0") and labels[whole.variants[2].name] == "Q6_K"


def test_names_that_end_alike_are_never_drawn_as_one():
    whole = card()
    twins = tuple(
        replace(whole.variants[1], name=f"hf.co/{who}/some-very-long-model-name-GGUF:Q8_0")
        for who in ("one", "two", "six")
    )
    labels = labels_of(replace(whole, variants=(whole.variants[0], *twins)))
    assert len(set(labels.values())) == 4
    spec = pictures_of(replace(whole, variants=(whole.variants[0], *twins)))["divergence"]
    assert len({row["label"] for row in rows(spec) if "label" in row}) == 3


def test_a_hostile_name_is_data_and_nothing_else():
    evil = "</script><script>alert(1)</script>{datum.x}'\"&"
    whole = card()
    named = replace(whole.variants[1], name=evil, quantization=evil)
    for spec in pictures_of(replace(whole, variants=(whole.variants[0], named)), budget=MIB).values():
        for layer in spec["layer"]:
            told = json.dumps(
                {"mark": layer["mark"], "encoding": {k: v for k, v in layer["encoding"].items() if k not in "xy"}}
            )
            assert "script" not in told
        assert "signal" not in json.dumps(spec) and "expr" not in json.dumps(spec)


def test_labels_cover_neither_one_another_nor_points():
    points = [(100.0 + 3 * index, 100.0 + 2 * index, "Q4_K_M") for index in range(6)]
    places = label_places(points, 300, 260)
    boxes = [
        (x + 7 if place.right else x - 7 - 45, place.y - 6, x + 52 if place.right else x - 7, place.y + 6)
        for (x, _, _), place in zip(points, places, strict=True)
    ]
    for index, one in enumerate(boxes):
        for other in boxes[index + 1 :]:
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_a_label_at_the_edge_turns_inward():
    assert [place.right for place in label_places([(290, 100, "Q4_K_M"), (5, 100, "Q8_0")], 300, 260)] == [False, True]


def test_ticks_of_a_logarithmic_axis_lie_inside_it():
    assert log_ticks([0.004, 0.6]) == [0.01, 0.03, 0.1, 0.3]
    assert log_ticks([1e-5, 1]) == [1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0]
    assert log_domain([0.01, 0.1]) == pytest.approx([0.00625, 0.16])
