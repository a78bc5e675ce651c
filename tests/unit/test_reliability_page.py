"""docs/reliability.md says what its results say, about what is promised now."""

from __future__ import annotations

import re

import pytest

from proving import page
from proving.promises import promises, selected
from proving.results import described, read

KNOWN = promises()
RESULTS = read()
AGAIN = "run: python -m proving --page"


def test_the_page_is_what_its_results_make_of_it():
    assert page.PAGE.read_text(encoding="utf-8") == page.render(KNOWN, RESULTS), AGAIN


def test_every_result_belongs_to_a_promise_as_it_stands_now():
    known = {one.row: one for one in KNOWN}
    assert set(RESULTS) <= set(known), "a result of a row that is promised no more: delete it"
    outdated = [row for row, result in RESULTS.items() if {**result, **described(known[row])} != result]
    assert outdated == [], f"promised otherwise since: make prove SECTION={','.join(map(str, outdated))}"


@pytest.mark.parametrize("row", sorted(RESULTS))
def test_what_the_page_shows_was_kept_in_full_and_its_controls_failed(row):
    result = RESULTS[row]
    assert (result["form"], result["kept"], result["faults"]) == ("full", True, [])
    assert result["controls"] and all(one["failed"] for one in result["controls"])
    assert result["n"] > 0 == result["failures"] == result["unknown"]


def test_each_row_of_the_table_begins_with_its_number():
    rows = re.findall(r"^\| (\d+) \|", page.render(KNOWN, RESULTS), flags=re.MULTILINE)
    assert [int(row) for row in rows] == [one.row for one in KNOWN]


def test_a_page_that_differs_from_its_results_is_noticed():
    if not RESULTS:
        pytest.skip("nothing was proved yet")
    row, result = next(iter(RESULTS.items()))
    changed = {**RESULTS, row: {**result, "n": result["n"] + 1}}
    assert page.render(KNOWN, changed) != page.render(KNOWN, RESULTS)


def test_rows_are_chosen_by_number_range_section_and_name():
    first = KNOWN[0]
    for word in (str(first.row), f"{first.row}-{first.row}", first.name):
        assert selected([word]) == (first,)
    assert first in selected([first.section])
    assert selected([]) == KNOWN
    with pytest.raises(ValueError, match="nothing is promised under '999'"):
        selected([f"{first.row},999"])
