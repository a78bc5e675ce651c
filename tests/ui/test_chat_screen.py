"""The chat screen over scripted services: what it shows, and what clicks do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from app.core import errors
from app.core.conversations import MessageState
from app.core.errors import HostProtocolError, LoupeError, QueueFull
from app.core.generation import CacheMode, Span
from app.core.hosts import HostState, HostStatus
from app.models.catalog import CatalogView
from app.services.alias_targets import AliasView
from app.services.alias_values import read_alias
from app.services.chat import Caller
from app.services.queueing.admission import QueueDrained
from app.services.telemetry import CacheDecision
from app.ui.notices import NOTICES, notice_for
from app.ui.notices import stored as stored_notice
from tests.ui.fake_services import OLLAMA, FakeServices, smollm2
from tests.ui.pages import calm, chat_of, choose, html_of, labels_of, text_of

Open = Callable[..., AppTest]
Q8 = "smollm2:135m-instruct-q8_0"


def stored(services: FakeServices, chat_id: str) -> list[tuple[str, str, MessageState]]:
    conversation = services.run(services.history.get(chat_id, "local"))
    return [(m.role, m.content, m.state) for m in conversation.messages]


def test_a_first_visit_says_who_answers_and_offers_three_questions(open_screen: Open) -> None:
    page = calm(open_screen("chat"))
    assert "SmolLM2 135M Instruct" in text_of(page)
    assert sum((button.key or "").startswith("example-") for button in page.button) == 3
    assert not page.chat_input[0].disabled


def test_a_question_is_answered_and_stored(services: FakeServices, open_screen: Open) -> None:
    page = calm(open_screen("chat"))
    page.chat_input[0].set_value("What is the capital of France?").run()
    calm(page)
    assert "Paris is the capital of France." in text_of(page)
    assert "41.2 tok/s" in text_of(page)
    assert stored(services, chat_of(page)) == [
        ("user", "What is the capital of France?", MessageState.COMPLETE),
        ("assistant", "Paris is the capital of France.", MessageState.COMPLETE),
    ]


def test_an_example_question_is_asked_by_one_click(services: FakeServices, open_screen: Open) -> None:
    page = open_screen("chat")
    page.button(key="example-0").click().run()
    assert "Paris is the capital of France." in text_of(calm(page))
    assert services.model.asked[0]["model"] == "smollm2:135m-instruct-q8_0"  # a small model begins at eight bits


def test_a_conversation_opens_by_its_link(services: FakeServices, open_screen: Open) -> None:
    chat_id = services.ask("What is the capital of France?")
    page = calm(open_screen("chat", chat=chat_id))
    assert "Paris is the capital of France." in text_of(page)


def test_a_dead_link_says_so_and_offers_a_way_on(services: FakeServices, open_screen: Open) -> None:
    page = calm(open_screen("chat", chat="nothere"))
    assert "This chat does not exist" in text_of(page)


def test_the_variant_is_switched_inside_the_conversation(services: FakeServices, open_screen: Open) -> None:
    chat_id = services.ask("What is the capital of France?")
    page = open_screen("chat", chat=chat_id)
    page.session_state["variant"] = True
    page.run()
    page.button(key=f"pick-{Q8}").click().run()
    page.chat_input[0].set_value("And again?").run()
    assert services.model.asked[-1]["model"] == Q8
    assert [m for m in ("Q4_K_M", "Q8_0") if f">{m}</b>" in html_of(calm(page))] == ["Q4_K_M", "Q8_0"]


def test_an_alias_is_chosen_like_a_variant_and_says_what_it_leads_to(services: FakeServices, open_screen: Open) -> None:
    coder, gone = (read_alias(name, {"targets": [Q8], "options": {"top_k": 7}}) for name in ("coder", "gone"))
    services.aliases.shown = (AliasView(coder, (), Q8, ""), AliasView(gone, ()))
    told = {"alias": "coder", "model": Q8, "place": 2, "cut": True, "tokens": 910, "limit": 512}
    services.model.script = lambda _: [Span("alias", 0.0, 0.0, told), "It is Paris."]
    page = open_screen("chat")
    page.session_state["variant"] = True
    page.run()
    assert page.button(key="pick-alias-gone").disabled
    page.button(key="pick-alias-coder").click().run()
    assert r"coder :gray[→ Q8\_0]" in [chip.proto.popover.label for chip in page.get("popover")]
    page.chat_input[0].set_value("What is the capital of France?").run()
    assert services.model.asked[-1]["model"] == "coder"
    words = text_of(calm(page))
    assert f'title="{Q8}">Q8_0</b>' in html_of(page)
    assert "as coder, choice 2" in words and "did not fit the context: 910 tokens, 512 fit" in words


def test_regenerate_replaces_the_last_answer(services: FakeServices, open_screen: Open) -> None:
    chat_id = services.ask("What is the capital of France?")
    page = open_screen("chat", chat=chat_id)
    services.model.script = lambda _: ["It is Paris."]
    next(button for button in page.button if button.label == "Regenerate").click().run()
    assert "It is Paris." in text_of(calm(page))
    assert [content for _, content, _ in stored(services, chat_id)] == [
        "What is the capital of France?",
        "It is Paris.",
    ]


def test_a_cached_answer_says_so_and_can_be_asked_for_anew(services: FakeServices, open_screen: Open) -> None:
    services.model.script = lambda _: [CacheDecision("hit", age=200.0), "Paris."]
    chat_id = services.ask("What is the capital of France?")
    page = calm(open_screen("chat", chat=chat_id))
    assert "cached, 3 min ago" in text_of(page)
    assert "Ask again" in labels_of(page)
    services.model.script = lambda _: ["Paris, once more."]
    next(button for button in page.button if button.label == "Ask again").click().run()
    assert services.model.callers[-1].cache_mode is CacheMode.REFRESH
    assert "cached" not in text_of(calm(page))
    assert "Regenerate" in labels_of(page)


def test_what_a_chat_wants_of_the_cache_goes_with_its_questions_and_not_to_the_host(
    services: FakeServices, open_screen: Open
) -> None:
    page = open_screen("chat")
    page.session_state["parameters"] = True
    page.run()
    page.selectbox(key="option-new-cache").select(CacheMode.BYPASS).run()
    page.chat_input[0].set_value("What is the capital of France?").run()
    calm(page)
    assert services.model.callers[-1].cache_mode is CacheMode.BYPASS
    assert "options" not in services.model.asked[-1] and "cache" not in services.model.asked[-1]


def test_editing_the_last_question_asks_it_again(services: FakeServices, open_screen: Open) -> None:
    chat_id = services.ask("What is the capital of France?")
    page = open_screen("chat", chat=chat_id)
    services.model.script = lambda _: ["Rome."]
    next(button for button in page.button if button.label == "Edit").click().run()
    page.text_area(key="edit_text").set_value("What is the capital of Italy?")
    page.button(key="edit_send").click().run()
    calm(page)
    assert [content for _, content, _ in stored(services, chat_id)] == ["What is the capital of Italy?", "Rome."]


def test_stop_ends_a_running_answer_and_keeps_what_is_there(services: FakeServices, open_screen: Open) -> None:
    chat_id = services.ask("What is the capital of France?")
    gate, _ = services.gate()
    services.model.script = lambda _: ["Quantization stores", gate]

    async def begin() -> None:
        generation = await services.generations.send(chat_id, "Explain quantization.", Caller())
        async for event in generation.attach():
            if "stores" in getattr(event, "text", ""):
                return

    services.run(begin())
    page = AppTest.from_string(
        "from app.ui import actions\nimport streamlit as st\nst.button('Stop', key='stop', on_click=actions.stop)"
    )
    page.query_params["chat"] = chat_id
    page.run().button(key="stop").click().run()
    calm(page)
    assert services.generations.active(chat_id) is None
    assert stored(services, chat_id)[-1] == ("assistant", "Quantization stores", MessageState.STOPPED)
    assert "stopped" in text_of(calm(open_screen("chat", chat=chat_id)))


@pytest.mark.parametrize("kind", [kind for kind in NOTICES if kind is not LoupeError], ids=lambda kind: kind.__name__)
def test_every_error_of_an_answer_is_told_with_what_was_answered(
    kind: type[LoupeError], services: FakeServices, open_screen: Open
) -> None:
    error = an_error(kind)
    if isinstance(error, errors.Cancelled):
        assert notice_for(error).title == "Stopped"
        return
    services.model.script = lambda _: ["Paris is", services.page_attached, error]
    page = open_screen("chat")
    page.chat_input[0].set_value("What is the capital of France?").run()
    words = text_of(calm(page))
    assert notice_for(error).title in words
    assert "Paris is" in words
    assert ("Try again" in labels_of(page)) == notice_for(error).retry


def an_error(kind: type[LoupeError]) -> LoupeError:
    arguments: dict[type[LoupeError], tuple[object, ...]] = {
        errors.PromptVariablesMissing: (("language",),), errors.ModelNotFound: ("gone:latest",),
        errors.ConversationNotFound: ("x",), errors.PayloadTooLarge: (10,), errors.Cancelled: (),
        errors.QueueFull: (64, 64), errors.QueueTimeout: (30.0,), errors.NoHealthyHost: ({"ollama": "refused"},),
        errors.Draining: (), QueueDrained: (), errors.HostError: ("ollama", "it broke"),
        errors.HostUnreachable: ("ollama",),
        errors.HostTimeout: ("ollama", "stall", 30.0), errors.HostProtocolError: ("ollama", "cut off"),
        errors.HostRefused: ("ollama", 500, "no"), errors.GenerationFailed: ("ollama", "it broke"),
        errors.ModelLoadFailed: ("m", "no memory"), errors.ModelFileDamaged: ("m.gguf", "too short"),
        errors.IntegrityError: ("m", "a", "b"), errors.SettingsError: (("LOUPE_PORT is 0",),),
    }  # fmt: skip
    return kind(*arguments.get(kind, ("it broke",)))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [kind for kind in NOTICES if kind is not LoupeError], ids=lambda kind: kind.__name__)
def test_a_stored_error_is_told_in_the_same_tone(kind: type[LoupeError]) -> None:
    error = an_error(kind)
    told = stored_notice(error.code, error.message, began=True)
    assert (told.retry, told.tone) == (notice_for(error).retry, notice_for(error).tone)
    assert told.title.strip() and told.what_to_do.strip()


@pytest.mark.parametrize(
    ("reason", "wait", "most", "told"),
    [
        ("wait", 44.0, 30.0, "Your turn would come in about 44 s, and nobody is let wait for more than 30 s."),
        ("flow", 9.0, 4, "4 questions of this page wait already"),
        ("count", 9.0, 64, "All 64 places in the queue are taken."),
        ("prompt tokens", 9.0, 900, "would take longer to read"),
        ("", 0.0, 0, "Too many waited, or for too long."),
    ],
)
def test_a_refusal_of_the_queue_tells_its_own_reason(reason: str, wait: float, most: float, told: str) -> None:
    error = errors.QueueFull(64, 64, retry_after=12.4)
    error.reason, error.wait, error.most = reason, wait, most
    notice = notice_for(error)
    assert told in notice.what_to_do and ("try again in about 12 s" in notice.what_to_do) == bool(reason)
    assert notice.retry and notice.tone == "warn"


def test_try_again_after_an_error_answers_the_same_question(services: FakeServices, open_screen: Open) -> None:
    services.model.script = lambda _: [HostProtocolError("built-in", "cut off")]
    page = open_screen("chat")
    page.chat_input[0].set_value("What is the capital of France?").run()
    services.model.script = lambda _: ["Paris."]
    next(button for button in page.button if button.label == "Try again").click().run()
    assert "Paris." in text_of(calm(page))
    assert "broke off" not in text_of(page)


def test_a_question_that_cannot_be_saved_is_back_in_the_composer(services: FakeServices, open_screen: Open) -> None:
    page = open_screen("chat")
    services.run(services.generations.stop(0.0))  # the server is going down
    page.chat_input[0].set_value("Do not lose me").run()
    assert page.chat_input[0].proto.value == "Do not lose me"
    assert "Loupe is shutting down" in text_of(calm(page))


def test_a_text_sent_during_an_answer_goes_out_when_that_is_done(services: FakeServices, open_screen: Open) -> None:
    page = open_screen("chat", chat=services.ask("First?"))
    page.session_state["loupe.chat"].queued = "Second?"
    services.model.script = lambda _: ["Second answer."]
    page.run()
    assert "Second answer." in text_of(calm(page))
    assert page.session_state["loupe.chat"].queued == ""


def test_delete_can_be_undone(services: FakeServices, open_screen: Open) -> None:
    chat_id = services.ask("What is the capital of France?")
    page = open_screen("chat", chat=chat_id)
    choose(page, "Delete")
    calm(page)
    assert services.run(services.history.conversations("local")) == ()
    page.button(key="undo_delete").click().run()
    assert [row.id for row in services.run(services.history.conversations("local"))] == [chat_id]
    assert "Paris is the capital of France." in text_of(calm(page))


def test_rename(services: FakeServices, open_screen: Open) -> None:
    chat_id = services.ask("What is the capital of France?")
    page = open_screen("chat", chat=chat_id)
    choose(page, "Rename")
    page.text_input(key=f"title-{chat_id}").set_value("Capitals").run()
    calm(page)
    assert [row.title for row in services.run(services.history.conversations("local"))] == ["Capitals"]


def test_parameters_show_the_models_own_values_and_are_sent(services: FakeServices, open_screen: Open) -> None:
    page = open_screen("chat")
    page.session_state["parameters"] = True
    page.run()
    temperature = page.number_input(key="option-new-temperature")
    assert (temperature.value, temperature.placeholder) == (None, "0.2")
    temperature.set_value(0.0).run()
    page.chat_input[0].set_value("Hello?").run()
    assert services.model.asked[-1]["options"] == {"temperature": 0.0}
    calm(page)


def test_a_prompt_of_the_library_becomes_the_system_prompt(services: FakeServices, open_screen: Open) -> None:
    page = open_screen("chat")
    page.session_state["prompt"] = True
    page.run()
    page.button_group(key="library-new").select("Translator").run()
    page.text_input(key="blank-new-translator-language").set_value("French").run()
    assert "into French" in str(page.text_area(key="system-new").value)
    page.chat_input[0].set_value("Good morning").run()
    messages = services.model.asked[-1]["messages"]
    assert isinstance(messages, list)
    assert "into French" in str(messages[0])
    calm(page)


def test_a_host_that_is_down_is_said_with_the_way_to_start_it(services: FakeServices, open_screen: Open) -> None:
    services.pool.hosts = (HostStatus(OLLAMA, HostState.OFFLINE, error="refused"),)
    services.catalog.view = CatalogView((), services.pool.hosts)
    page = calm(open_screen("chat"))
    assert "Ollama at 127.0.0.1:11434 does not answer" in text_of(page)
    assert "ollama serve" in text_of(page)
    assert page.chat_input[0].disabled


def test_an_ollama_without_models_leads_to_where_one_gets_them(services: FakeServices, open_screen: Open) -> None:
    services.pool.hosts = (HostStatus(OLLAMA, HostState.HEALTHY),)
    services.embedded = False
    services.catalog.view = CatalogView((), services.pool.hosts)
    page = calm(open_screen("chat"))
    assert "Ollama answers, but has no models" in text_of(page)
    assert [link.proto.page for link in page.get("page_link")] == ["models"]


def test_an_address_with_a_model_begins_a_new_chat_with_it(open_screen: Open) -> None:
    page = calm(open_screen("chat", model="smollm2:135m-instruct-q2_K"))
    assert "83.0 MiB at 4.85 bpw" in text_of(page)  # of the one that answers
    assert "model" not in page.query_params


def test_a_first_model_that_is_being_pulled_is_said_to_be_on_its_way(services: FakeServices, open_screen: Open) -> None:
    services.catalog.view = CatalogView((), services.pool.hosts)
    services.model_jobs.gate, _ = services.gate()
    services.pull("qwen3:0.6b-q4_K_M")
    words = text_of(calm(open_screen("chat")))
    assert "on its way" in words
    assert "412 MiB of 948 MiB" in words


def test_the_first_ready_variant_can_chat_while_others_are_made(services: FakeServices, open_screen: Open) -> None:
    waiting = {"state": "waiting", "size": 0, "bpw": None}
    family = smollm2(**{suffix: waiting for suffix in ("q6_K", "q5_K_M", "q4_K_M", "q4_0", "q3_K_M", "q2_K", "fp16")})
    services.catalog.view = CatalogView((family,), services.pool.hosts)
    page = open_screen("chat")
    page.chat_input[0].set_value("Hello?").run()
    assert services.model.asked[-1]["model"] == Q8
    calm(page)


def test_what_a_model_writes_cannot_load_an_image(services: FakeServices, open_screen: Open) -> None:
    services.model.script = lambda _: ["Look: ![x](https://example.org/a.png) done"]
    page = calm(open_screen("chat", chat=services.ask("Show me")))
    assert not any("![" in element.value for element in page.markdown)


def test_a_question_is_shown_as_text_and_not_as_markup(services: FakeServices, open_screen: Open) -> None:
    page = calm(open_screen("chat", chat=services.ask("<b>bold</b> ![x](https://example.org/a.png)")))
    assert "&lt;b&gt;bold&lt;/b&gt;" in html_of(page)


def test_a_full_queue_keeps_the_question(services: FakeServices, open_screen: Open) -> None:
    services.model.script = lambda _: [QueueFull(64, 64)]
    page = open_screen("chat")
    page.chat_input[0].set_value("Hello?").run()
    assert "The queue took nothing more" in text_of(calm(page))
    assert stored(services, chat_of(page))[0] == ("user", "Hello?", MessageState.COMPLETE)


def test_conversations_that_could_not_be_read_are_told_of_and_a_backup_is_brought_back(
    services: FakeServices, open_screen: Open
) -> None:
    chat_id = services.ask("What is the capital of France?")
    services.run(services.backups.make())
    services.lose_history()
    page = calm(open_screen("chat"))
    assert "Your conversations were set aside" in text_of(page) and "damaged-" in text_of(page)
    page.button(key="history-restore").click().run()
    assert "set aside" not in text_of(calm(page))
    assert stored(services, chat_id)[0][1] == "What is the capital of France?"


def test_a_damage_without_a_backup_can_be_dismissed_for_good(services: FakeServices, open_screen: Open) -> None:
    services.lose_history()
    page = calm(open_screen("chat"))
    assert "no backup yet" in text_of(page) and "history-restore" not in [button.key for button in page.button]
    page.button(key="history-dismiss").click().run()
    assert "set aside" not in text_of(calm(page))
    assert "set aside" not in text_of(calm(open_screen("chat")))
