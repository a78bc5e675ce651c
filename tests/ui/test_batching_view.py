"""The batching lab over scripted services: choosing, a study on its way, its result, and the setting applied."""

from __future__ import annotations

from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from app.comparison.batching.study import OPTIONS, SLOTS
from app.core.errors import BadRequest
from app.core.runtime_setup import RuntimeSetup
from tests.ui import fake_batching
from tests.ui.fake_services import FakeServices
from tests.ui.pages import calm, html_of, labels_of

Open = Callable[..., AppTest]
VIEW = "Batching lab"


def test_without_a_study_it_says_what_is_measured_and_measures_with_one_click(
    services: FakeServices, open_screen: Open
) -> None:
    page = calm(open_screen("service", view=VIEW))
    assert "How many answers at once" in html_of(page) and "Nothing was measured yet" in html_of(page)
    calm(page.button(key="batching-begin").click().run())
    [(what, asked)] = services.batching.calls
    assert (what, asked.kind, asked.most, len(asked.shapes)) == ("begin", SLOTS, 8, 2)
    assert page.query_params["study"] in (fake_batching.running().id, [fake_batching.running().id])
    assert "4 at once" in html_of(page)


def test_options_are_chosen_and_nothing_is_measured_without_one(services: FakeServices, open_screen: Open) -> None:
    page = calm(open_screen("service", view=VIEW))
    page.session_state["batching-kind"] = OPTIONS
    calm(page.run())
    assert page.button(key="batching-begin").disabled
    page.session_state["batching-arms"] = ["KV cache q8_0"]
    calm(page.run())
    calm(page.button(key="batching-begin").click().run())
    [(_, asked)] = services.batching.calls
    assert (asked.kind, asked.arms) == (OPTIONS, (RuntimeSetup(kv_type="q8_0"),))


def test_a_result_names_the_knee_and_one_click_applies_its_setting(services: FakeServices, open_screen: Open) -> None:
    study = fake_batching.swept()
    services.batching.put(study)
    page = calm(open_screen("service", view=VIEW, study=study.id))
    told = html_of(page)
    assert "<h2>4 slots</h2>" in told and "OLLAMA_NUM_PARALLEL=4" in told and "LOUPE_RUNTIME_BATCH=256" in told
    assert "4, the knee" in told
    calm(page.button(key="study-apply").click().run())
    assert services.tuning.kept == RuntimeSetup(slots=4, batch=256)
    assert page.button(key="study-apply").disabled and "In force" in labels_of(page)


def test_a_setting_that_the_operator_made_is_told_and_not_offered(services: FakeServices, open_screen: Open) -> None:
    study = fake_batching.swept()
    services.batching.put(study)
    services.tuning.why = "LOUPE_SLOTS=2 was set where Loupe was started"
    page = calm(open_screen("service", view=VIEW, study=study.id))
    assert "LOUPE_SLOTS=2 was set" in html_of(page) and "Apply" not in labels_of(page)


def test_an_a_b_shows_quality_beside_speed(services: FakeServices, open_screen: Open) -> None:
    study = fake_batching.compared()
    services.batching.put(study)
    told = html_of(calm(open_screen("service", view=VIEW, study=study.id)))
    assert "2 threads" in told and "faster" in told and "close, KLD 0.0210" in told


def test_a_study_on_its_way_can_be_paused_gone_on_with_and_cancelled(services: FakeServices, open_screen: Open) -> None:
    study = fake_batching.running()
    services.batching.put(study)
    page = calm(open_screen("service", view=VIEW, study=study.id))
    calm(page.button(key="study-pause").click().run())
    assert services.batching.get(study.id).state == "paused"
    calm(page.button(key="study-resume").click().run())
    calm(page.button(key="study-cancel").click().run())
    assert services.batching.get(study.id).state == "cancelled"


def test_what_was_changed_here_can_be_taken_back(services: FakeServices, open_screen: Open) -> None:
    services.tuning.kept = RuntimeSetup(slots=4)
    page = calm(open_screen("service", view=VIEW))
    assert "Changed here: 4 slots" in html_of(page)
    calm(page.button(key="batching-reset").click().run())
    assert services.tuning.kept == RuntimeSetup()


def test_a_refusal_is_told_on_the_page(services: FakeServices, open_screen: Open) -> None:
    services.batching.refusal = BadRequest("the model is computed elsewhere")
    page = calm(open_screen("service", view=VIEW))
    calm(page.button(key="batching-begin").click().run())
    assert "The model is computed elsewhere" in html_of(page)


def test_deleting_asks_first_and_goes_to_the_list(services: FakeServices, open_screen: Open) -> None:
    study = fake_batching.swept()
    services.batching.put(study)
    page = calm(open_screen("service", view=VIEW, study=study.id))
    calm(page.button(key="study-delete").click().run())
    assert study.id in services.batching.studies
    [sure] = [button for button in page.button if button.label == "Delete" and button.key != "study-delete"]
    calm(sure.click().run())
    assert not services.batching.studies and "study" not in page.query_params
