"""Getting, making and deleting on the models screen, and the tray: every state, over real jobs with scripted work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from app.core.errors import BadRequest, HostRefused, HostUnreachable
from app.core.hosts import HostState, HostStatus
from app.models.catalog import CatalogView
from app.services.jobs import JobState
from app.services.model_jobs import MakeOffer, Removal
from app.ui import model_actions
from tests.ui.fake_services import EMBEDDED, MIB, OLLAMA, FakeServices, qwen, smollm2
from tests.ui.pages import calm, labels_of, text_of

Open = Callable[..., AppTest]
F16, Q4 = "smollm2:135m-instruct-fp16", "smollm2:135m-instruct-q4_K_M"
OFFERS = (
    MakeOffer("Q8_0", "smollm2:135m-instruct-q8_0", 138 * MIB, 2.0, "host"),
    MakeOffer("Q4_K_M", Q4, 98 * MIB, 5.0, "host"),
    MakeOffer("Q2_K", "smollm2:135m-instruct-q2_K", 83 * MIB, None, "loupe", "Loupe cannot read this host's files"),
)


def no_model(services: FakeServices) -> None:
    services.catalog.view = CatalogView((), services.pool.hosts)


def only_the_reference(services: FakeServices) -> None:
    family = smollm2()
    services.catalog.view = CatalogView((replace(family, variants=family.variants[:1]),), services.pool.hosts)
    services.model_jobs.offered = OFFERS


def two_hosts(services: FakeServices) -> None:
    bench = replace(OLLAMA, name="bench")
    services.pool.hosts = (HostStatus(EMBEDDED, HostState.HEALTHY), HostStatus(bench, HostState.HEALTHY))


def type_and_pull(page: AppTest, tag: str) -> AppTest:
    page.text_input(key=model_actions.TAG).input(tag)
    return calm(next(button for button in page.button if button.label == "Pull").click().run())


# -- getting ----------------------------------------------------------------------------------------------------------


def test_an_empty_host_offers_a_box_suggestions_and_where_tags_are_listed(
    services: FakeServices, open_screen: Open
) -> None:
    no_model(services)
    page = calm(open_screen("models"))
    assert "No model yet" in text_of(page) and "ollama.com/library" in text_of(page)
    page.button(key="take-llama3.2:1b-instruct-fp16").click().run()
    assert page.text_input(key=model_actions.TAG).value == "llama3.2:1b-instruct-fp16"
    assert services.model_jobs.calls == []  # nothing is fetched before someone says so


def test_a_tag_is_pulled_with_its_progress_in_the_tray(services: FakeServices, open_screen: Open) -> None:
    no_model(services)
    services.model_jobs.gate, _ = services.gate()
    page = type_and_pull(open_screen("models"), "ollama pull qwen3:0.6b-q8_0")
    assert services.model_jobs.calls == [("pull", "qwen3:0.6b-q8_0", "")]
    assert "Getting qwen3:0.6b-q8_0" in text_of(page.run())
    assert "412 MiB of 948 MiB" in text_of(page)
    assert page.text_input(key=model_actions.TAG).value == ""
    again = calm(open_screen("models"))  # a reload: another page of the same server
    assert "412 MiB of 948 MiB" in text_of(again)


def test_where_models_are_here_the_box_is_behind_a_button(services: FakeServices, open_screen: Open) -> None:
    page = calm(open_screen("models"))
    assert not page.text_input
    assert "1 model, 8 variants" in text_of(page)
    page.session_state[model_actions.GET] = True
    page.run()
    type_and_pull(page, "qwen3:0.6b-q8_0")
    assert page.session_state[model_actions.GET] is False
    assert services.model_jobs.calls == [("pull", "qwen3:0.6b-q8_0", "")]


def test_with_several_hosts_one_is_chosen(services: FakeServices, open_screen: Open) -> None:
    two_hosts(services)
    no_model(services)
    page = calm(open_screen("models"))
    page.selectbox(key=model_actions.PULL_HOST).select("bench")
    type_and_pull(page, "qwen3:0.6b-q8_0")
    assert services.model_jobs.calls == [("pull", "qwen3:0.6b-q8_0", "bench")]


def test_an_empty_box_asks_for_a_tag(services: FakeServices, open_screen: Open) -> None:
    no_model(services)
    assert "Which tag?" in text_of(type_and_pull(open_screen("models"), "  "))
    assert services.model_jobs.calls == []


def test_a_name_that_is_none_is_told_at_the_box_which_keeps_it(services: FakeServices, open_screen: Open) -> None:
    no_model(services)
    services.model_jobs.refusal = BadRequest("invalid model name", "model")
    page = type_and_pull(open_screen("models"), "not a name")
    assert "Invalid model name." in text_of(page)
    assert page.text_input(key=model_actions.TAG).value == "not a name"


def test_an_unknown_tag_says_where_tags_are_listed_and_can_be_dismissed(
    services: FakeServices, open_screen: Open
) -> None:
    services.model_jobs.failure = HostRefused("built-in", 500, "pull model manifest: file does not exist")
    job = services.pull("llama3.2:nope")
    page = calm(open_screen("models"))
    assert "The registry has no such tag" in text_of(page)
    assert "ollama.com/library/llama3.2/tags" in text_of(page)
    page.button(key=f"job-drop-{job.id}").click().run()
    assert "no such tag" not in text_of(calm(page))


def test_a_pull_is_cancelled_and_resumed(services: FakeServices, open_screen: Open) -> None:
    services.model_jobs.gate, _ = services.gate()
    job = services.pull("qwen3:0.6b-q8_0")
    page = calm(open_screen("models"))
    page.button(key=f"job-act-{job.id}").click().run()
    assert services.jobs.get(job.id).state is JobState.CANCELLED
    assert "412 MiB of 948 MiB are kept" in text_of(calm(page))
    assert {"Resume", "Dismiss"} <= set(labels_of(page))
    page.button(key=f"job-act-{job.id}").click().run()
    assert services.jobs.get(job.id).active
    assert "Cancel" in labels_of(calm(page))


def test_a_job_that_is_gone_is_told_in_the_tray(services: FakeServices, open_screen: Open) -> None:
    services.model_jobs.gate, _ = services.gate()
    job = services.pull("qwen3:0.6b-q8_0")
    page = open_screen("models")
    services.jobs._forget(job.id)
    page.button(key=f"job-act-{job.id}").click().run()
    assert f"There is no job {job.id}." in text_of(calm(page))


def test_the_end_of_a_pull_is_told_once(services: FakeServices, open_screen: Open) -> None:
    services.model_jobs.gate, open_gate = services.gate()
    job = services.pull("qwen3:0.6b-q8_0")
    page = calm(open_screen("models"))
    assert not page.toast
    open_gate()
    services.until_ended(job.id)
    assert [toast.value for toast in page.run().toast] == [r"qwen3\:0\.6b\-q8\_0 is ready"]
    assert not page.run().toast
    assert "Getting qwen3" not in text_of(calm(page))


# -- making -----------------------------------------------------------------------------------------------------------


def test_quantizations_are_chosen_with_size_and_time_told_before(services: FakeServices, open_screen: Open) -> None:
    only_the_reference(services)
    page = calm(open_screen("models"))
    page.button(key=f"make-second-{F16}").click().run()
    words = "\n".join(box.label for box in calm(page).checkbox)
    for told in ("138 MiB", "about 2 s", "98.0 MiB", "about 5 s", "Loupe cannot read this host"):
        assert told in words
    assert page.checkbox(key="make-smollm2:135m-instruct-q2_K").disabled
    assert page.button(key="make-go").disabled
    for offer in OFFERS[:2]:
        page.checkbox(key=f"make-{offer.name}").check()
    page.run()
    assert "236 MiB more on the disk, about 7 s." in text_of(page)
    assert page.button(key="make-go").label == "Make 2 quantizations"
    services.model_jobs.gate, _ = services.gate()
    page.button(key="make-go").click().run()
    assert [call for call in services.model_jobs.calls if call[0] != "offers"] == [
        ("make", F16, "Q8_0", "built-in"),
        ("make", F16, "Q4_K_M", "built-in"),
    ]
    assert services.model_jobs.calls.count(("offers", F16, "built-in")) == 1  # a tick does not ask the host again
    assert not calm(page).checkbox  # the dialog is closed
    assert f"Making Q8_0 of {F16}" in text_of(page.run())


def test_the_host_is_chosen_where_the_source_is_on_several(services: FakeServices, open_screen: Open) -> None:
    two_hosts(services)
    services.catalog.view = CatalogView((smollm2(fp16={"hosts": ("built-in", "bench")}),), services.pool.hosts)
    services.model_jobs.offered = (replace(OFFERS[0], name="smollm2:135m-instruct-new"),)
    page = calm(open_screen("models"))
    page.button(key="make-of-smollm2-135m").click().run()
    page.button_group(key="make-source").select("F16, bench").run()
    page.checkbox(key="make-smollm2:135m-instruct-new").check().run()
    page.button(key="make-go").click().run()
    assert services.model_jobs.calls[-1] == ("make", F16, "Q8_0", "bench")


def test_a_family_without_its_reference_says_which_tag_would_serve(services: FakeServices, open_screen: Open) -> None:
    services.catalog.view = CatalogView((qwen(),), services.pool.hosts)
    page = calm(open_screen("models"))
    page.button(key="make-of-qwen3-4b").click().run()
    assert "qwen3:4b-instruct-2507-fp16" in text_of(calm(page))
    assert "about 7.5 GiB" in text_of(page)
    page.button(key="make-pull").click().run()
    assert services.model_jobs.calls == [("pull", "qwen3:4b-instruct-2507-fp16", "bench")]
    assert "would serve" not in text_of(calm(page))


def test_a_host_that_is_away_while_offers_are_asked_is_told_and_asked_again(
    services: FakeServices, open_screen: Open
) -> None:
    only_the_reference(services)
    services.model_jobs.refusal = HostUnreachable("built-in", "connection refused")
    page = open_screen("models")
    page.button(key="make-of-smollm2-135m").click().run()
    assert "does not answer" in text_of(calm(page))
    services.model_jobs.refusal = None
    page.button(key="retry-offers").click().run()
    assert len(calm(page).checkbox) == len(OFFERS)


def test_a_make_that_cannot_begin_is_told_in_the_dialog(services: FakeServices, open_screen: Open) -> None:
    only_the_reference(services)
    page = open_screen("models")
    page.button(key="make-of-smollm2-135m").click().run()
    page.checkbox(key=f"make-{Q4}").check().run()
    services.model_jobs.refusal = BadRequest("there is already a model of that name")
    page.button(key="make-go").click().run()
    assert "There is already a model of that name." in text_of(calm(page))
    page.button(key="make-cancel").click().run()
    assert not calm(page).checkbox


@pytest.mark.parametrize(
    ("name", "told", "button"),
    [
        ("qwen3:0.6b-q8_0", "qwen3:0.6b-q4_K_M", "Pull it"),
        ("llama3.2:1b", "ollama.com/library/llama3.2/tags", ""),
        ("127.0.0.1:5000/library/ok:q8_0", "where this one is from", ""),
    ],
)
def test_a_single_variant_says_how_to_get_a_second(
    services: FakeServices, open_screen: Open, name: str, told: str, button: str
) -> None:
    family = qwen()
    alone = replace(family, variants=(replace(family.variants[0], name=name),))
    services.catalog.view = CatalogView((alone,), services.pool.hosts)
    page = calm(open_screen("models"))
    assert "nothing to compare it with" in text_of(page) and told in text_of(page)
    if button:
        page.button(key=f"pull-second-{name}").click().run()
        assert services.model_jobs.calls == [("pull", told, "bench")]
    else:
        assert "Pull it" not in labels_of(page)


def test_an_embedding_model_is_not_asked_to_be_compared(services: FakeServices, open_screen: Open) -> None:
    family = qwen()
    alone = replace(family, variants=(replace(family.variants[0], capabilities=("embedding",)),))
    services.catalog.view = CatalogView((alone,), services.pool.hosts)
    assert "nothing to compare" not in text_of(calm(open_screen("models")))


# -- deleting ---------------------------------------------------------------------------------------------------------


def test_deleting_names_the_variant_and_what_is_freed(services: FakeServices, open_screen: Open) -> None:
    page = calm(open_screen("models"))
    page.button(key=f"delete-{Q4}").click().run()
    assert "Frees 98.0 MiB." in text_of(calm(page))
    assert "It can be made again from the 16-bit variant." in text_of(page)
    assert "Delete Q4\\_K\\_M" in labels_of(page)
    page.button(key="delete-go").click().run()
    assert services.model_jobs.calls[-2][:2] == ("remove", Q4)
    assert Q4 not in text_of(calm(page))


def test_weights_that_others_share_are_not_said_to_become_free(services: FakeServices, open_screen: Open) -> None:
    services.model_jobs.told = Removal(F16, "built-in", 0, ("my-assistant:latest",), loaded=True)
    page = calm(open_screen("models"))
    page.button(key=f"delete-{F16}").click().run()
    words = text_of(calm(page))
    assert "Frees no space. It shares its weights with my-assistant:latest, which stay." in words
    assert "It is loaded now" in words
    assert "what the other quantizations are made from" in words
    page.button(key="delete-cancel").click().run()
    assert "Frees no space" not in text_of(calm(page))
    assert all(call[0] == "removal" for call in services.model_jobs.calls)


def test_a_delete_that_is_refused_is_told_in_the_dialog(services: FakeServices, open_screen: Open) -> None:
    page = calm(open_screen("models"))
    page.button(key=f"delete-{Q4}").click().run()
    services.model_jobs.refusal = BadRequest(f"{Q4} is in use (Making Q2_K); cancel that first")
    page.button(key="delete-go").click().run()
    assert "cancel that first" in text_of(calm(page))
    assert services.catalog.view.find(Q4) is not None


def test_on_several_hosts_a_delete_names_its_host(services: FakeServices, open_screen: Open) -> None:
    two_hosts(services)
    services.catalog.view = CatalogView((smollm2(q4_K_M={"hosts": ("built-in", "bench")}),), services.pool.hosts)
    page = calm(open_screen("models"))
    page.button(key=f"delete-{Q4}").click().run()
    assert "on built-in" in text_of(calm(page))
    page.button_group(key="delete-host").select("bench").run()
    assert "on bench" in text_of(calm(page))
    page.button(key="delete-go").click().run()
    assert ("remove", Q4, "bench") in services.model_jobs.calls
