"""The scorecard's table as values: order, dashes with their reasons, ties, what the machine cannot tell."""

from __future__ import annotations

from dataclasses import replace

from app.comparison.results import Estimate
from app.ui import card_deep, card_table, card_times
from app.ui.card_table import COLUMNS
from tests.ui import scorecards

KEYS = [column.key for column in COLUMNS if column.key != "energy"]


def cell(row: card_table.Row, key: str) -> card_table.Cell:
    return row.cells[KEYS.index(key)]


def test_the_order_is_that_of_the_divergence_and_not_of_the_labels() -> None:
    shown = [row.label for row in card_table.rows(scorecards.scorecard())]
    assert shown == ["F16", "Q8_0", "Q6_K", "Q4_K_M", "Q5_K_M", "Q3_K_M", "Q4_0", "Q2_K"]


def test_what_the_reference_cannot_have_is_a_dash_that_says_so() -> None:
    first = card_table.rows(scorecards.scorecard())[0]
    assert first.tier == "reference"
    assert cell(first, "kld").value == "–"
    assert "measured against it" in cell(first, "kld").told


def test_what_is_still_to_come_and_what_a_server_cannot_tell_are_not_the_same_dash() -> None:
    bare = card_table.rows(scorecards.running())[-1]
    assert cell(bare, "decode").told == "Not measured yet."
    old = card_table.rows(scorecards.old_server())[-1]
    assert cell(old, "kld").told == "Divergence needs Ollama 0.12.11."
    assert cell(old, "decode").value != "–"


def test_figures_carry_interval_and_n() -> None:
    row = card_table.rows(scorecards.scorecard("fp16", "q4_K_M"))[1]
    assert (cell(row, "decode").value, cell(row, "decode").under) == ("61.0", "± 1.2 (n 6)")
    assert cell(row, "ttft").value == "380 ms"
    assert cell(row, "same_top").value == "88.7"
    assert cell(row, "kld").told == "0.073 ± 0.016 nats (n 24). One token in a hundred is above 0.581 nats."


def test_memory_that_was_only_predicted_is_marked_so() -> None:
    card = scorecards.scorecard("fp16", "q8_0")
    variant = card.variants[1]
    assert variant.memory is not None
    card = replace(card, variants=(card.variants[0], replace(variant, memory=replace(variant.memory, measured=None))))
    shown = cell(card_table.rows(card)[1], "memory")
    assert (shown.tone, shown.under) == ("predicted", "predicted")
    assert "with 4\u202f096 tokens of context" in shown.told


def test_variants_that_cannot_be_told_apart_name_each_other() -> None:
    rows = {row.label: row for row in card_table.rows(scorecards.scorecard())}
    assert rows["Q4_K_M"].tied == ("Q5_K_M",)
    assert rows["Q5_K_M"].tied == ("Q4_K_M",)
    assert rows["Q8_0"].tied == ()


def test_a_divergence_below_the_noise_of_the_machine_is_said_to_be_beside_the_point() -> None:
    card = scorecards.scorecard("fp16", "q8_0")
    quality = card.variants[1].quality
    assert quality is not None
    card = replace(card, variants=(card.variants[0], replace(card.variants[1], quality=replace(quality, floor=0.001))))
    assert cell(card_table.rows(card)[1], "kld").tone == "weak"


def test_two_variants_of_one_label_are_called_by_their_names_too() -> None:
    card = scorecards.scorecard("fp16", "q8_0")
    twin = replace(card.variants[1], name="other:q8_0")
    called = card_table.labels(replace(card, variants=(*card.variants, twin)))
    assert called["other:q8_0"] == "Q8_0 (other:q8_0)"
    assert called[card.variants[0].name] == "F16"


def test_a_finding_marks_the_row_it_is_about() -> None:
    warned = {row.label for row in card_table.rows(scorecards.scorecard()) if row.warned}
    assert warned == {"Q2_K"}  # the note about the reference misleads nobody


def test_a_deep_card_says_what_a_task_could_have_seen() -> None:
    table = card_deep.tasks(scorecards.deep())
    assert table is not None
    assert table.rows[0][0] == "Q8_0"
    assert table.rows[0][-1] == "no difference shown; 13 points would have been seen"
    assert card_deep.tasks(scorecards.scorecard()) is None


def test_a_change_over_time_is_shown_only_where_its_interval_leaves_out_none() -> None:
    before = scorecards.scorecard("fp16", "q8_0")
    faster = before.variants[1].speed
    assert faster is not None
    quick = replace(before.variants[1], speed=replace(faster, decode_tps=Estimate(60, 59, 61, 6)))
    now = replace(before, variants=(before.variants[0], quick))
    found = {(change.label, change.name): change for change in card_times.changes(before, now)}
    decode = found["Q8_0", "Decode, tok/s"]
    assert decode.shown and decode.told.startswith("× 1.17")
    assert not found["F16", "Decode, tok/s"].shown
    assert found["F16", "Decode, tok/s"].told.endswith("no change shown")


def test_half_widths_of_two_measurements_add_by_their_squares() -> None:
    ratio = card_times.ratio_of(Estimate(10, 9, 10 * 10 / 9), Estimate(20, 18, 20 * 10 / 9))
    assert ratio is not None and ratio.low is not None and ratio.high is not None
    assert round(ratio.value, 3) == 2
    assert round(ratio.high / ratio.value, 4) == round((10 / 9) ** (2**0.5), 4)
    assert card_times.ratio_of(Estimate(0, 0, 0), Estimate(1, 1, 1)) is None


def test_energy_has_a_column_where_a_meter_could_be_read() -> None:
    card = scorecards.scorecard("fp16", "q8_0")
    assert "energy" not in [column.key for column in card_table.columns(card)]
    speed = card.variants[1].speed
    assert speed is not None
    metered = replace(card.variants[1], speed=replace(speed, joules_per_token=Estimate(1.2, 1.0, 1.5, 4)))
    card = replace(card, variants=(card.variants[0], metered))
    place = [column.key for column in card_table.columns(card)].index("energy")
    assert [row.cells[place].value for row in card_table.rows(card)] == ["–", "1.20"]
