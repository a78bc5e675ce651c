"""Service > Batch jobs over scripted batches: what a row says, what its buttons do, and the way a file takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from app.core.errors import StoreError
from app.services.batches.values import BatchState, Form
from app.services.jobs import JobState
from app.ui import batch_actions
from tests.ui.batch_scenes import DONE, FAILED, RUNNING, batches
from tests.ui.fake_services import FakeServices
from tests.ui.pages import calm, html_of, labels_of, text_of

Open = Callable[..., AppTest]


def view(open_screen: Open, **query: str) -> AppTest:
    return calm(open_screen("service", view="Batch jobs", **query))


def test_without_a_batch_the_page_says_what_a_file_is(open_screen: Open) -> None:
    page = view(open_screen)
    assert "a CSV table with a column named prompt" in text_of(page)
    assert "No batch yet" in text_of(page)
    assert page.button(key="batch-begin").disabled


def test_each_batch_says_how_far_it_is_and_what_can_be_done(services: FakeServices, open_screen: Open) -> None:
    batches(services)
    page = view(open_screen)
    text = text_of(page)
    assert "312 of 500 answered, 2 failed" in text and "4 min left" in text
    assert "stopped: the disk with Loupe's data folder is full" in text
    assert [label for label in labels_of(page) if label in ("Pause", "Resume", "Cancel", "Ask failed again")] == [
        "Pause", "Cancel", "Resume", "Ask failed again",
    ]  # fmt: skip
    assert f'href="/loupe/batches/{DONE}/results?format=openai"' in html_of(page)


@pytest.mark.parametrize(
    ("button", "call"),
    [
        (f"batch-pause-{RUNNING}", ("pause", RUNNING)), (f"batch-cancel-{RUNNING}", ("cancel", RUNNING)),
        (f"batch-resume-{FAILED}", ("resume", FAILED)), (f"batch-retry-{DONE}", ("retry", DONE)),
    ],
)  # fmt: skip
def test_each_button_does_what_it_says(
    button: str, call: tuple[str, str], services: FakeServices, open_screen: Open
) -> None:
    batches(services)
    page = view(open_screen)
    calm(page.button(key=button).click().run())
    assert services.batches.calls == [call]


def test_a_failure_is_told_on_the_page(services: FakeServices, open_screen: Open) -> None:
    batches(services)
    services.batches.refusal = StoreError("the batches cannot be kept: no")
    page = view(open_screen)
    assert "The batches cannot be kept: no" in text_of(calm(page.button(key=f"batch-pause-{RUNNING}").click().run()))


def test_the_last_answers_have_an_address(services: FakeServices, open_screen: Open) -> None:
    batches(services)
    page = view(open_screen, batch=RUNNING)
    text = text_of(page)
    assert "Why is the sky <blue>?" in text and "Because of <b>Rayleigh</b>" in text
    assert "Hide answers" in labels_of(page)
    assert '<li data-tone="bad">' in html_of(page)
    calm(page.button(key=f"batch-open-{RUNNING}").click().run())
    assert "batch" not in page.query_params


def test_a_batch_is_deleted_after_a_dialog_that_says_what_is_lost(services: FakeServices, open_screen: Open) -> None:
    batches(services)
    page = view(open_screen)
    page.button(key=f"batch-drop-{RUNNING}").click().run()
    assert "Its 312 answers are deleted for good, and 186 prompts are not asked." in text_of(calm(page))
    calm(page.button(key="confirm-go").click().run())
    assert services.batches.calls == [("delete", RUNNING)]


def test_a_file_that_is_chosen_is_begun_with_its_model_and_system_prompt(
    services: FakeServices, open_screen: Open
) -> None:
    page = view(open_screen)
    page.text_input(key=batch_actions.SYSTEM).set_value("Be brief.")
    page.file_uploader[0].set_value(("my.csv", b"\xef\xbb\xbfprompt,n\nWhy?,1\nHow?,2\n", "text/csv")).run()
    calm(page.button(key="batch-begin").click().run())
    [(name, form, prompts, owner)] = services.batches.begun
    assert (name, form, owner, len(prompts)) == ("my.csv", Form.CSV, "local", 2)
    assert [turn["content"] for turn in prompts[0].body["messages"]] == ["Be brief.", "Why?"]  # type: ignore[index,union-attr]
    assert prompts[0].model == page.selectbox(key=batch_actions.MODEL).value
    assert page.button(key="batch-begin").disabled  # the file is not there twice


@pytest.mark.parametrize(
    ("content", "told"), [(b"name\nx\n", "needs a column named prompt"), (b"prompt\n\xff\xfe\n", "no text in UTF-8")]
)
def test_a_file_that_cannot_be_used_is_told_with_what_is_wrong(
    content: bytes, told: str, services: FakeServices, open_screen: Open
) -> None:
    page = view(open_screen)
    page.file_uploader[0].set_value(("my.csv", content, "text/csv")).run()
    calm(page.button(key="batch-begin").click().run())
    assert told in text_of(page) and not services.batches.begun


def test_a_waiting_batch_says_why(services: FakeServices, open_screen: Open) -> None:
    batches(services)
    job = services.batches.jobs[RUNNING]
    services.batches.jobs[RUNNING] = replace(job, state=JobState.WAITING, detail="Somebody is asking: people go first")
    assert "Somebody is asking: people go first" in text_of(view(open_screen))
    services.batches.table[RUNNING] = replace(services.batches.table[RUNNING], state=BatchState.PAUSED)
    assert "paused" in text_of(view(open_screen))
