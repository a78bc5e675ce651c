"""The Settings screen over fake services: what is set and by whom, hosts, backups, and who may change them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.config_report import load_settings
from app.core.errors import BadRequest
from app.services.access_keys import KeyScope, KeyWish
from app.ui import access, settings_actions, who
from tests.ui import settings_scenes
from tests.ui.fake_services import FakeServices
from tests.ui.pages import calm, html_of, labels_of, text_of

Open = Callable[..., AppTest]


@pytest.fixture
def file(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the settings file would be."""
    monkeypatch.setenv("LOUPE_DATA", str(services.settings.data))
    return services.settings.data / "loupe.toml"


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(who, "visits", lambda: who.Who("ana", "Signed in with a key.", admin=False, signed_in=True))


def row_of(page: AppTest, variable: str) -> str:
    """The words of one setting's line."""
    [row] = [part for part in html_of(page).split("<tr") if f"<code>{variable}</code>" in part]
    return row.split("</tr>")[0]


def test_each_setting_is_told_with_value_origin_and_meaning_and_no_secret(
    services: FakeServices, file: Path, monkeypatch: pytest.MonkeyPatch, open_screen: Open
) -> None:
    file.write_text('log_format = "json"\nslots = 2\n')
    monkeypatch.setenv("LOUPE_TOKEN", "a-secret-of-ours")
    monkeypatch.setenv("LOUPE_SLOTS", "4")
    monkeypatch.setenv("LOUPE_HOSTS", "bench=http://192.168.1.20:11434;key=hush-hush")
    services.loaded = load_settings(port=8600)
    page = calm(open_screen("settings"))
    assert "command line" in row_of(page, "LOUPE_PORT") and "8600" in row_of(page, "LOUPE_PORT")
    assert "loupe.toml" in row_of(page, "LOUPE_LOG_FORMAT")
    assert "default" in row_of(page, "LOUPE_CACHE_BYTES") and "1 GiB" in row_of(page, "LOUPE_CACHE_BYTES")
    assert "sets it too, in vain" in row_of(page, "LOUPE_SLOTS")
    assert "environment" in row_of(page, "LOUPE_TOKEN") and "not shown" in row_of(page, "LOUPE_TOKEN")
    assert "What all its models together" in row_of(page, "LOUPE_RUNTIME_MEMORY")
    assert "hush-hush" not in html_of(page) and "a-secret-of-ours" not in html_of(page)


def test_the_list_is_narrowed_by_words_and_to_what_somebody_set(
    services: FakeServices, file: Path, open_screen: Open
) -> None:
    services.loaded = load_settings(port=8600)
    page = calm(open_screen("settings", find="queue wait"))
    assert "LOUPE_QUEUE_WAIT_SECONDS" in html_of(page) and "LOUPE_PORT" not in html_of(page)
    page.text_input(key="find").set_value("no such words").run()
    assert "No setting has “no such words” in it." in text_of(page)
    page.text_input(key="find").set_value("").run()
    page.button_group(key="which").select("Set by someone").run()
    assert "<code>LOUPE_PORT</code>" in html_of(page) and "<code>LOUPE_BIND</code>" not in html_of(page)


def test_what_a_restart_would_change_is_told(services: FakeServices, file: Path, open_screen: Open) -> None:
    services.loaded = load_settings()
    assert "wait" not in text_of(calm(open_screen("settings"))).split("Read once")[0]
    file.write_text('cache_bytes = "4GiB"\n')
    page = calm(open_screen("settings"))
    assert "1 setting waits for a restart" in text_of(page)
    assert "after a restart: <b>4 GiB</b>" in row_of(page, "LOUPE_CACHE_BYTES")


def test_a_file_that_would_stop_the_next_start_is_told_with_what_to_mend(
    services: FakeServices, file: Path, open_screen: Open
) -> None:
    services.loaded = load_settings()
    file.write_text("port = 99999\nquee_limit = 3\n")
    told = text_of(calm(open_screen("settings")))
    assert "The next start would fail" in told and "LOUPE_PORT: 99999 is not allowed" in told


def test_a_host_is_drained_used_again_and_removed(services: FakeServices, open_screen: Open) -> None:
    settings_scenes.settings_hosts(services)
    page = calm(open_screen("settings", view="Hosts"))
    assert "http://192.168.1.30:11434" in text_of(page) and "connection refused" in text_of(page)
    page.button(key="drain-away").click().run()
    page.button(key="drain-bench").click().run()
    assert services.hosts.calls == [("drain", "away"), ("undrain", "bench")]
    page.button(key="remove-bench").click().run()
    assert "what it is answering now ends first" in text_of(calm(page)).lower()
    page.button(key="confirm-go").click().run()
    assert services.hosts.calls[-1] == ("remove", "bench")
    assert "remove-away" not in [button.key for button in page.button], "a host of the settings cannot be removed"
    services.hosts.refusal = BadRequest("away is being removed")
    page.button(key="drain-away").click().run()
    assert "Away is being removed." in text_of(calm(page))


def test_a_key_is_made_shown_once_with_lines_for_clients_and_revoked(services: FakeServices, open_screen: Open) -> None:
    page = calm(open_screen("settings", view="Keys"))
    assert "There is no key yet." in text_of(page)
    page.button(key="key-new").click().run()
    assert "from then on everybody needs a key, this browser too" in text_of(calm(page))
    page.text_input(key="key-name").set_value("me")
    page.button(key="key-save").click().run()
    [key] = services.keys.list()
    told = html_of(calm(page))
    secret = told.split("Bearer ")[1].split("&quot;")[0]
    found = services.keys.find(secret.encode())
    assert found is not None and found.id == key.id and key.scope is KeyScope.ADMIN
    assert f"OPENAI_API_KEY={secret}" in told and f'data-lp-copy="{secret}"' in told and not page.get("dialog")
    page.button(key="key-fresh-done").click().run()
    assert secret not in html_of(calm(page)) and "not used yet" in text_of(page)
    page.button(key="key-new").click().run()
    page.text_input(key="key-name").set_value("editor")
    page.text_input(key="key-models").set_value("qwen2.5:*, llama3.2:3b")
    page.number_input(key="key-tokens").set_value(20000)
    page.button(key="key-save").click().run()
    editor = services.keys.list()[0]
    assert editor.models == ("qwen2.5:*", "llama3.2:3b") and editor.limits.tokens_a_day == 20000
    assert editor.limits.per_minute is None and "20\u202f000 tokens a day" in text_of(calm(page))
    page.button(key=f"key-revoke-{key.id}").click().run()
    assert "the last administrator's" in text_of(calm(page))
    page.button(key="confirm-go").click().run()
    assert services.keys.visitor(key.principal) is None and "revoked just now" in text_of(calm(page))


def test_what_a_key_has_used_is_told_beside_it(services: FakeServices, open_screen: Open) -> None:
    settings_scenes.settings_keys(services)
    told = text_of(calm(open_screen("settings", view="Keys")))
    assert "today 1 request, 12\u202f345 tokens" in told and "2 at once" in told and "look: models" in told


def test_a_key_that_cannot_be_made_says_why(services: FakeServices, open_screen: Open) -> None:
    services.keys.create(KeyWish("me", KeyScope.ADMIN))
    page = calm(open_screen("settings", view="Keys"))
    page.button(key="key-new").click().run()
    page.text_input(key="key-name").set_value("me")
    page.button(key="key-save").click().run()
    assert "already" in text_of(calm(page)) and page.get("dialog")


@pytest.mark.parametrize(
    ("models", "parts"), [((), ["Keys", "Aliases", "Hosts"]), (("qwen2.5:*",), ["Keys"])], ids=["all", "some"]
)
def test_a_member_sees_the_own_key_alone_and_no_part_that_tells_of_others(
    models: tuple[str, ...],
    parts: list[str],
    services: FakeServices,
    open_screen: Open,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    services.keys.create(KeyWish("me", KeyScope.ADMIN))
    ana, _ = services.keys.create(KeyWish("ana", models=models))
    visitor = services.keys.visitor(ana.principal)
    monkeypatch.setattr(access, "visitor", lambda: visitor)
    page = calm(open_screen("settings", view="Backups"))  # a link to a part that is not for them
    told = text_of(page)
    assert "Only an administrator may see and change the keys of others" in told and "ask models" in told
    assert page.button(key=f"key-revoke-{ana.id}").disabled and page.button(key="key-new").disabled
    assert [option.content for option in page.get("button_group")[0].proto.options] == parts
    assert f"key-revoke-{services.keys.list()[1].id}" not in [button.key for button in page.button]


def test_an_alias_is_made_switched_and_removed(services: FakeServices, open_screen: Open) -> None:
    page = calm(open_screen("settings", view="Aliases"))
    assert "There is no alias yet." in text_of(page)
    page.button(key="alias-new").click().run()
    page.text_input(key="alias-name").set_value("coder")
    page.text_area(key="alias-targets").set_value("best=qwen3:4b\nqwen3:1b@bench\n")
    page.text_area(key="alias-options").set_value('num_ctx = 16384\nstop=["END"]')
    page.selectbox(key="alias-guard").set_value("refuse")
    page.button(key="alias-save").click().run()
    made = services.aliases.table["coder"]
    assert [target.text for target in made.targets] == ["best=qwen3:4b", "qwen3:1b@bench"]
    assert made.defaults.options == {"num_ctx": 16384, "stop": ["END"]} and str(made.guard) == "refuse"
    told = text_of(calm(page))
    assert "→ qwen3:4b" in told and "best=qwen3:4b, else qwen3:1b@bench" in told and not page.get("dialog")
    page.button(key="alias-change-coder").click().run()
    assert page.text_area(key="alias-options").value == 'num_ctx=16384\nstop=["END"]'
    page.text_area(key="alias-targets").set_value("llama3.2:3b")
    page.button(key="alias-save").click().run()
    assert "→ llama3.2:3b" in text_of(calm(page))
    page.button(key="alias-remove-coder").click().run()
    assert "no such model" in text_of(calm(page))
    page.button(key="confirm-go").click().run()
    assert services.aliases.table == {} and not calm(page).get("dialog")


def test_an_alias_that_cannot_be_kept_says_why_and_keeps_the_form(services: FakeServices, open_screen: Open) -> None:
    page = calm(open_screen("settings", view="Aliases"))
    page.button(key="alias-new").click().run()
    page.text_input(key="alias-name").set_value("coder")
    page.text_area(key="alias-targets").set_value("gone")
    page.text_area(key="alias-options").set_value("num_ctx")
    page.button(key="alias-save").click().run()
    assert "is no option; write one a line" in text_of(calm(page))
    page.text_area(key="alias-options").set_value("")
    services.aliases.refusal = BadRequest("no host has 'gone'")
    page.button(key="alias-save").click().run()
    assert "No host has 'gone'." in text_of(calm(page)) and page.get("dialog")
    services.aliases.refusal = None
    page.checkbox(key="alias-anyway").check()
    page.button(key="alias-save").click().run()
    assert services.aliases.anyway and "coder" in services.aliases.table


def test_an_alias_whose_first_choice_cannot_answer_says_which_one_does(
    services: FakeServices, open_screen: Open
) -> None:
    settings_scenes.settings_aliases(services)
    told = text_of(calm(open_screen("settings", view="Aliases")))
    assert "→ qwen2.5-coder:3b on laptop" in told and "gone: No host has it." in told


def test_a_backup_is_made_fetched_and_brought_back_after_saying_what_it_adds(
    services: FakeServices, open_screen: Open
) -> None:
    page = calm(open_screen("settings", view="Backups"))
    assert "There is no backup yet" in text_of(page)
    chat = services.ask("What is the capital of France?")
    page.button(key="back-up").click().run()
    [backup] = services.run(services.backups.list())
    assert f'href="/loupe/history/backups/{backup.name}"' in html_of(calm(page)) and "1 conversation" in text_of(page)
    page.button(key=f"bring-{backup.name}").click().run()
    assert "Everything in this backup is here already" in text_of(calm(page))
    assert page.button(key="restore-go").disabled
    page.button(key="restore-cancel").click().run()
    services.run(services.history._run_plain(lambda: forget(services)))
    page.button(key=f"bring-{backup.name}").click().run()
    assert "Adds 1 conversation and 2 messages" in text_of(calm(page))
    page.button(key="restore-go").click().run()
    assert not calm(page).get("dialog")
    assert [row.id for row in services.run(services.history.conversations("local"))] == [chat]


def forget(services: FakeServices) -> None:
    """As if the conversations had been lost."""
    engine = services.history._engine
    assert engine is not None
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM messages")
        connection.exec_driver_sql("DELETE FROM conversations")


def test_who_may_not_change_things_sees_them_and_why_not(
    services: FakeServices, open_screen: Open, member: None
) -> None:
    settings_scenes.settings_hosts(services)
    page = calm(open_screen("settings", view="Hosts"))
    assert "Only an administrator may change hosts;" in text_of(page) and "bench" in text_of(page)
    assert all(page.button(key=key).disabled for key in ("drain-away", "drain-bench", "remove-bench"))
    assert "Sign out" in html_of(page) and "ana" in str(page)


def test_what_only_an_administrator_may_do_is_refused_also_behind_the_buttons(
    services: FakeServices, open_screen: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = calm(open_screen("settings", view="Backups"))
    seen = iter([True])  # the page was drawn for an administrator, who is none any more when the button is heard

    def visits() -> who.Who:
        return who.Who("ana", "Signed in with a key.", admin=not next(seen, False), signed_in=True)

    monkeypatch.setattr(who, "visits", visits)
    page.button(key="back-up").click().run()
    assert services.run(services.backups.list()) == ()
    assert "Only an administrator may back the conversations up." in text_of(calm(page))


def test_where_the_database_is_not_ours_the_page_says_so(services: FakeServices, open_screen: Open) -> None:
    services.history.file = None
    page = calm(open_screen("settings", view="Backups"))
    assert "back it up with its own tools" in text_of(page) and "back-up" not in labels_of(page)
    assert settings_actions.BACKUP_SECONDS > 15


def test_the_check_says_what_is_wrong_and_what_to_do_and_looks_again_when_asked(
    services: FakeServices, open_screen: Open
) -> None:
    page = calm(open_screen("settings", view="Check"))
    assert "One thing does not work: host far; one thing could be better: memory." in text_of(page)
    assert "Only small models fit." in html_of(page) and "needed: 8 GiB" in html_of(page)
    assert "Test &lt;1&gt;: AVX2" in html_of(page) and "<1>" not in html_of(page)
    assert "FAIL  host far" in html_of(page)  # what the button copies
    assert services.check.looks == 1
    page.run()
    assert services.check.looks == 1
    page.button(key="check-again").click().run()
    assert services.check.looks == 2
