"""Settings from the environment and the file: precedence, errors, warnings, and the page that documents them."""

from pathlib import Path

import pytest

from app.config import Settings
from app.config_children import runtime_limits
from app.config_report import LoadedSettings, effective_table, load_settings, markdown_table, variable_of
from app.core.errors import SettingsError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for variable in list(os.environ):
        if variable.upper().startswith("LOUPE_") or variable == "OLLAMA_HOST":
            monkeypatch.delenv(variable)
    monkeypatch.setenv("LOUPE_DATA", str(tmp_path))


def problems() -> tuple[str, ...]:
    with pytest.raises(SettingsError) as failure:
        load_settings()
    return failure.value.problems


def test_the_defaults_are_private_and_local(tmp_path: Path) -> None:
    loaded = load_settings()

    settings = loaded.settings
    assert (settings.bind, settings.port, settings.data) == ("127.0.0.1", 8501, tmp_path)
    assert settings.allowed_hosts == ("localhost", "127.0.0.1", "[::1]")
    assert settings.token is None
    assert not settings.allow_create
    assert settings.models_folder == tmp_path / "models"
    assert settings.history_url == f"sqlite:///{tmp_path}/loupe.db"
    assert loaded.warnings == ()


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().settings.port = 1  # type: ignore[misc]


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loupe.toml").write_text('port = 1111\nslots = 3\nqueue_limit = 5\nhosts = ["a=:1", "b=:2;slots=9"]\n')
    monkeypatch.setenv("LOUPE_QUEUE_LIMIT", "6")
    monkeypatch.setenv("LOUPE_PORT", "2222")

    loaded = load_settings(port=3333)

    assert (loaded.settings.port, loaded.settings.slots, loaded.settings.queue_limit) == (3333, 3, 6)
    assert [host.slots for host in loaded.settings.hosts] == [3, 9]
    assert loaded.sources["port"] == "command line"
    assert loaded.sources["queue_limit"] == "LOUPE_QUEUE_LIMIT"
    assert loaded.sources["slots"] == str(tmp_path / "loupe.toml")
    assert loaded.sources["bind"] == "default"


def test_a_named_file_is_read_and_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOUPE_CONFIG", str(tmp_path / "mine.toml"))
    assert problems() == (f"LOUPE_CONFIG names {tmp_path / 'mine.toml'}, which does not exist.",)

    (tmp_path / "mine.toml").write_text("port = 1234")
    assert load_settings().settings.port == 1234


def test_a_file_that_is_not_toml_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "loupe.toml").write_text("port = = 1")

    (problem,) = problems()

    assert str(tmp_path / "loupe.toml") in problem
    assert "line 1" in problem


def test_every_bad_value_is_told_at_once_with_what_is_allowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "loupe.toml").write_text("drain_seconds = -1")
    for variable, value in {
        "LOUPE_PORT": "99999",
        "LOUPE_LOG_LEVEL": "loud",
        "OLLAMA_HOST": "ftp://x",
        "LOUPE_ALLOW_CREATE": "perhaps",
        "LOUPE_CACHE_BYTES": "lots",
        "LOUPE_ALLOWED_HOSTS": "good.example,*.example",
        "LOUPE_ORIGINS": "chat.example",
        "LOUPE_PROMPTS": str(tmp_path / "nowhere"),
        "LOUPE_STALL_SECONDS": "nan",
    }.items():
        monkeypatch.setenv(variable, value)

    told = {problem.partition(":")[0]: problem for problem in problems()}

    assert told["LOUPE_PORT"] == "LOUPE_PORT: '99999' is not allowed. Allowed: 0 to 65535."
    assert "'*.example'" in told["LOUPE_ALLOWED_HOSTS"]
    assert f"(from {tmp_path / 'loupe.toml'})" in told["LOUPE_DRAIN_SECONDS"]
    assert set(told) == {
        "LOUPE_PORT", "LOUPE_LOG_LEVEL", "OLLAMA_HOST", "LOUPE_ALLOW_CREATE", "LOUPE_CACHE_BYTES",
        "LOUPE_ALLOWED_HOSTS", "LOUPE_ORIGINS", "LOUPE_PROMPTS", "LOUPE_DRAIN_SECONDS", "LOUPE_STALL_SECONDS",
    }  # fmt: skip


def test_secrets_are_never_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOUPE_TOKEN", "hush-hush-token")
    monkeypatch.setenv("LOUPE_HOSTS", "a=:1;key=hush-key")
    monkeypatch.setenv("LOUPE_DATABASE_URL", "postgresql://me:hush@db/loupe")
    loaded = load_settings()

    printed = repr(loaded) + "".join(row.value for row in effective_table(loaded))

    assert "hush" not in printed


def test_a_bad_secret_is_refused_without_being_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOUPE_TOKEN", "hunter two")
    monkeypatch.setenv("LOUPE_HOSTS", "a=ftp://x;key=hunter")

    assert len(problems()) == 2
    assert "hunter" not in "".join(problems())


def test_an_unknown_name_is_warned_about_with_the_likely_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loupe.toml").write_text("prot = 1")
    monkeypatch.setenv("LOUPE_ALOW_CREATE", "on")

    warnings = load_settings().warnings

    assert "LOUPE_ALOW_CREATE is not a setting and is ignored; did you mean LOUPE_ALLOW_CREATE." in warnings
    assert any(warning.startswith("prot in ") and "did you mean port" in warning for warning in warnings)


def test_ollama_host_beside_loupe_hosts_is_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOUPE_HOSTS", "a=:1")
    monkeypatch.setenv("OLLAMA_HOST", ":2")

    assert load_settings().warnings == ("OLLAMA_HOST is ignored, because LOUPE_HOSTS is set.",)


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.168.1.5"])
def test_binding_to_the_network_needs_a_token_and_named_hosts(bind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOUPE_BIND", bind)
    (problem,) = problems()
    assert "LOUPE_TOKEN and LOUPE_ALLOWED_HOSTS" in problem

    monkeypatch.setenv("LOUPE_TOKEN", "long-enough-token")
    (problem,) = problems()
    assert "set LOUPE_ALLOWED_HOSTS" in problem

    monkeypatch.setenv("LOUPE_ALLOWED_HOSTS", "loupe.lan")
    assert load_settings().settings.bind == bind


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_loopback_needs_neither(bind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOUPE_BIND", bind)

    assert load_settings().settings.loopback


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("4096", 4096), ("64MiB", 64 << 20), ("1.5G", 3 << 29), ("2 kB", 2000), ("1 KiB", 1024)],
)
def test_sizes_are_written_as_people_write_them(text: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOUPE_CACHE_BYTES", text)

    assert load_settings().settings.cache_bytes == size


def test_an_empty_value_means_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOUPE_PORT", "")
    monkeypatch.setenv("OLLAMA_HOST", "")

    settings = load_settings().settings

    assert settings.port == 8501
    assert settings.ollama_host is None


def test_a_bare_ipv6_name_gets_its_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOUPE_ALLOWED_HOSTS", "::1,Loupe.LAN:8443")

    assert load_settings().settings.allowed_hosts == ("[::1]", "loupe.lan:8443")


def test_the_settings_page_is_current() -> None:
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == markdown_table()


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_says_what_it_does_and_what_is_allowed(name: str) -> None:
    field = Settings.model_fields[name]

    assert field.description
    assert isinstance(field.json_schema_extra, dict)
    assert field.json_schema_extra["allowed"]
    assert f"`{variable_of(name)}`" in markdown_table()


def test_the_runtime_is_told_its_slots_and_limits_and_they_are_no_mistakes_of_the_app(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOUPE_RUNTIME_MEMORY", "6GiB")
    monkeypatch.setenv("LOUPE_RUNTIME_KEY", "secret")

    assert load_settings().warnings == ()
    assert runtime_limits(3) == {"OLLAMA_NUM_PARALLEL": "3", "LOUPE_RUNTIME_MEMORY": "6GiB"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:secret@collector"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:99999999"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "just-a-word"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%0d%0aHost: b"),
    ],
)
def test_a_collector_that_cannot_be_one_is_refused(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        load_settings()


PROVIDER = {
    "LOUPE_PUBLIC_URL": "https://loupe.example.org/", "LOUPE_OIDC_METADATA_URL": "https://idp.example.org/metadata",
    "LOUPE_OIDC_CLIENT_ID": "loupe", "LOUPE_OIDC_CLIENT_SECRET": "hush-hush", "LOUPE_OIDC_ADMINS": "Ana@Example.org",
}  # fmt: skip


def test_an_identity_provider_is_set_whole_and_its_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PROVIDER.items():
        monkeypatch.setenv(name, value)
    loaded = load_settings()
    assert loaded.settings.public_url == "https://loupe.example.org"
    assert loaded.settings.oidc_admins == ("ana@example.org",)
    assert "hush-hush" not in str(effective_table(loaded)) + repr(loaded.settings)


@pytest.mark.parametrize("missing", [name for name in PROVIDER if name != "LOUPE_OIDC_METADATA_URL"])
def test_half_of_an_identity_provider_stops_the_start(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PROVIDER.items():
        if name != missing:
            monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=missing):
        load_settings()


@pytest.mark.parametrize("url", ["http://idp.example.org/x", "ftp://idp.example.org", "https://a:b@idp.example.org/x"])
def test_a_provider_that_others_could_read_on_the_way_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (PROVIDER | {"LOUPE_OIDC_METADATA_URL": url}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="LOUPE_OIDC_METADATA_URL"):
        load_settings()


def test_settings_of_which_nobody_says_where_they_come_from_are_told_as_defaults() -> None:
    assert {row.source for row in effective_table(LoadedSettings(Settings(), {}, ()))} == {"default"}
