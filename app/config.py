"""Every setting of Loupe: one frozen object, read once from the environment and an optional TOML file.

The file is `$LOUPE_CONFIG`, or `loupe.toml` in the data folder; its keys are the field names below, and the environment
wins over it. Each field carries its help and what it allows, so that the command line, the error messages and
docs/settings.md all say the same. Nothing else in Loupe reads the environment.
"""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import platformdirs
from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from app.config_values import (
    HostWords,
    OriginWords,
    PersonWords,
    Seconds,
    Size,
    WebhookSecret,
    WebhookUrl,
    collector_url,
    header_pairs,
    web_address,
)
from app.core.generation import CacheMode
from app.core.hosts import HostAddress
from app.host_urls import HOST_GRAMMAR, HOSTS_GRAMMAR, MAX_SLOTS, parse_hosts, parse_ollama_host

PREFIX = "LOUPE_"
FILE_VARIABLE = "LOUPE_CONFIG"
FILE_NAME = "loupe.toml"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


def default_data_folder() -> Path:
    """Where this platform keeps a user's application data."""
    return platformdirs.user_data_path("loupe", appauthor=False)


def _setting(default: Any, help_text: str, allowed: str, **limits: Any) -> Any:
    return Field(default, description=help_text, json_schema_extra={"allowed": allowed}, **limits)


HostList = Annotated[tuple[HostAddress, ...], NoDecode]


class Settings(BaseSettings):
    """The effective settings. `app.config_report.load_settings` builds it and explains every bad value at once."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True, populate_by_name=True
    )

    # Where Loupe is
    bind: str = _setting(
        "127.0.0.1",
        "Address to listen on. Anything but loopback needs LOUPE_TOKEN or a key, and LOUPE_ALLOWED_HOSTS.",
        "an IP address, or localhost",
    )
    port: int = _setting(8501, "Port to listen on; 0 takes any free one.", "0 to 65535", ge=0, le=65535)
    data: Path = _setting(
        None, "Folder for everything Loupe writes, kept private (mode 0700).", "a folder path", validate_default=True
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", "How much is logged.", "debug, info, warning or error"
    )
    trace_words: bool = _setting(
        False,
        "Keep the words of questions and answers with their traces: in the list of requests, in log lines and in "
        "exported spans.",
        "on or off",
    )
    trace_bytes: Size = _setting(
        16 << 20, "Memory for the traces of the last requests.", "64KiB to 1GiB", ge=64 << 10, le=1 << 30
    )
    otlp_endpoint: str | None = Field(
        None,
        description="Collector of traces, to whose /v1/traces every request is told as OpenTelemetry spans "
        "(OTLP over HTTP). Not set: none leave.",
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        json_schema_extra={"allowed": "an http:// or https:// URL without a user name, like http://127.0.0.1:4318"},
    )
    otlp_headers: SecretStr | None = Field(
        None,
        description="Headers for the collector, such as its key.",
        validation_alias="OTEL_EXPORTER_OTLP_HEADERS",
        json_schema_extra={"allowed": "name=value, commas between them, values percent-encoded"},
    )
    otlp_service: str = Field(
        "loupe",
        description="Name under which the collector knows this Loupe.",
        validation_alias="OTEL_SERVICE_NAME",
        json_schema_extra={"allowed": "1 to 200 characters"},
        min_length=1,
        max_length=200,
    )
    log_format: Literal["text", "json"] = _setting("text", "How log lines look.", "text or json")

    # Model hosts
    ollama_host: str | None = Field(
        None,
        description="Where Ollama is, in every spelling that Ollama's own client accepts. When neither this nor "
        "LOUPE_HOSTS is set, Loupe looks for Ollama on this machine and otherwise starts its own runtime.",
        validation_alias="OLLAMA_HOST",
        json_schema_extra={"allowed": HOST_GRAMMAR},
    )
    slots: int = _setting(
        1,
        "Generations that run at once on a host that does not say otherwise.",
        f"1 to {MAX_SLOTS}",
        ge=1,
        le=MAX_SLOTS,
    )
    hosts: HostList = _setting((), "Several model hosts; takes the place of OLLAMA_HOST.", HOSTS_GRAMMAR)
    starter: bool = _setting(True, "Fetch the starter model when Loupe's own runtime has no model yet.", "on or off")
    connect_seconds: Seconds = _setting(
        2.0, "Longest wait for a host to accept a connection.", "0.1 to 60", ge=0.1, le=60
    )
    first_token_seconds: Seconds = _setting(
        300.0, "Longest wait for the first token; loading the model counts.", "1 to 3600", ge=1, le=3600
    )
    stall_seconds: Seconds = _setting(60.0, "Longest silence inside an answer.", "1 to 3600", ge=1, le=3600)
    outage_seconds: Seconds = _setting(
        5.0,
        "Time for which those who wait are held when every host of their model is lost, before they are refused.",
        "0 to 600",
        ge=0,
        le=600,
    )
    remote_models: bool = _setting(
        False, "Use models that their host does not run itself but in somebody's cloud.", "on or off"
    )

    # Who may come in
    token: SecretStr | None = _setting(
        None,
        "Secret of the owner, who may do everything; browsers sign in with it. "
        "Without it, and while no key was made, everyone who reaches the port is the local user.",
        "at least 8 printable ASCII characters, no spaces",
    )
    allowed_hosts: HostWords = _setting(
        LOOPBACK_NAMES,
        "Names by which Loupe may be addressed (the Host header); one without a port fits any port.",
        "host names or addresses, commas between them",
    )
    origins: OriginWords = _setting(
        (),
        "Web origins, beside Loupe's own, whose pages may call it.",
        "like https://chat.example:8443, commas between them",
    )
    public_url: str | None = _setting(
        None, "How browsers reach Loupe; where people sign in at a provider, it sends them back there.",
        "like https://loupe.example.org",
    )  # fmt: skip
    oidc_metadata_url: str | None = _setting(
        None,
        "OpenID Connect: where the identity provider describes itself. With it people sign in there; wants the other "
        "OIDC settings and LOUPE_PUBLIC_URL.",
        "like https://accounts.example.org/.well-known/openid-configuration",
    )
    oidc_client_id: str | None = _setting(None, "How Loupe is called at the identity provider.", "what it says")
    oidc_client_secret: SecretStr | None = _setting(None, "Loupe's own secret there.", "what it says")
    oidc_admins: PersonWords = _setting(
        (),
        "Who of those that sign in there may do everything.",
        "e-mail addresses, or @example.org for a whole domain",
    )
    oidc_users: PersonWords = _setting(
        (), "Who else of them may come in, to chat.", "e-mail addresses, or @example.org for all of a domain"
    )
    allow_create: bool = _setting(False, "Let clients create models, upload blobs and push.", "on or off")
    max_body: Size = _setting(
        64 << 20, "Largest request body, blob uploads apart.", "1KiB to 4GiB", ge=1 << 10, le=4 << 30
    )
    max_blob: Size = _setting(256 << 30, "Largest blob upload.", "1MiB to 4TiB", ge=1 << 20, le=4 << 40)
    body_seconds: Seconds = _setting(30.0, "Longest pause while a request body arrives.", "1 to 600", ge=1, le=600)
    max_connections: int = _setting(
        256,
        "Connections at once, pages among them; one without a request makes room, else more are refused with 503.",
        "16 to 65535",
        ge=16,
        le=65535,
    )

    # Cache, queue, generations
    cache_bytes: Size = _setting(1 << 30, "Size of the answer cache; 0 turns it off.", "0 to 1TiB", ge=0, le=1 << 40)
    cache_mode: CacheMode = _setting(
        CacheMode.USE,
        "What a request wants of the answer cache when it does not say: an answer from it, a new one in its place, or "
        "nothing of it.",
        "use, refresh or bypass",
    )
    queue_limit: int = _setting(
        64, "Requests that may wait for a slot; more are refused at once.", "0 to 100000", ge=0, le=100_000
    )
    queue_per_page: int = _setting(
        4, "Requests of one page that may wait; the panes of a side-by-side count as one.", "1 to 1000", ge=1, le=1000
    )
    queue_per_client: int = _setting(
        16,
        "Requests of one API client (a key, or an address without one) that may wait.",
        "1 to 100000",
        ge=1,
        le=100_000,
    )
    queue_wait_seconds: Seconds = _setting(
        30.0, "Foretold wait beyond which an interactive request is refused.", "1 to 86400", ge=1, le=86_400
    )
    queue_batch_wait_seconds: Seconds = _setting(
        120.0, "Foretold wait beyond which a batch request is refused.", "1 to 86400", ge=1, le=86_400
    )
    swap_hold_seconds: Seconds = _setting(
        30.0,
        "Shortest time between two changes of a host's loaded model while both models are wanted.",
        "0 to 3600",
        ge=0,
        le=3600,
    )
    swap_overdue_seconds: Seconds = _setting(
        60.0, "Wait after which a request may force such a change.", "1 to 86400", ge=1, le=86_400
    )
    drain_seconds: Seconds = _setting(
        30.0, "Time for running answers to finish when Loupe is stopped.", "0 to 3600", ge=0, le=3600
    )
    page_grace_seconds: Seconds = _setting(
        30.0, "Time an answer runs on without a page when someone else waits.", "0 to 3600", ge=0, le=3600
    )

    # Stores
    database_url: str | None = _setting(
        None, "Where conversations are kept; empty means loupe.db in the data folder.", "a SQLAlchemy URL", repr=False
    )
    prompts: Path | None = _setting(
        None, "Folder with prompt files; empty means those that come with Loupe.", "an existing folder"
    )

    # Alerts
    alert_webhook: WebhookUrl | None = _setting(
        None, "Where alerts are sent, as JSON. Not set: nowhere.", "an http:// or https:// URL without a user name"
    )  # fmt: skip
    alert_webhook_secret: WebhookSecret | None = _setting(
        None, "What alerts are signed with (Standard Webhooks).", "8 to 512 characters; after whsec_ base64"
    )  # fmt: skip
    alert_webhook_private: bool = _setting(
        False, "Let alerts go to addresses of this machine and of private networks.", "on or off"
    )  # fmt: skip

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=settings_file())

    @field_validator("data", mode="before")
    @classmethod
    def _absolute_data(cls, value: object) -> object:
        return default_data_folder() if value is None else Path(str(value)).expanduser().absolute()

    @field_validator("prompts")
    @classmethod
    def _existing_prompts(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        folder = value.expanduser().absolute()
        if not folder.is_dir():
            raise ValueError("there is no such folder")
        return folder

    @field_validator("bind")
    @classmethod
    def _address(cls, value: str) -> str:
        try:
            return value if value == "localhost" else str(ipaddress.ip_address(value.strip("[]")))
        except ValueError:
            raise ValueError("it is a name, and names can point anywhere") from None

    @field_validator("ollama_host")
    @classmethod
    def _host_url(cls, value: str | None) -> str | None:
        return None if value is None else parse_ollama_host(value)

    @field_validator("otlp_endpoint")
    @classmethod
    def _collector_url(cls, value: str | None) -> str | None:
        return None if value is None else collector_url(value)

    @field_validator("otlp_headers")
    @classmethod
    def _collector_headers(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            header_pairs(value.get_secret_value())
        return value

    @field_validator("hosts", mode="before")
    @classmethod
    def _host_list(cls, value: object, known: ValidationInfo) -> object:
        if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
            value = ",".join(value)
        return parse_hosts(value, known.data.get("slots", 1)) if isinstance(value, str) else value

    @field_validator("token")
    @classmethod
    def _usable_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"[!-~]{8,512}", value.get_secret_value()):
            raise ValueError("it is too short, too long, or has characters that a header cannot carry")
        return value

    @field_validator("public_url", "oidc_metadata_url")
    @classmethod
    def _web_address(cls, value: str | None) -> str | None:
        return None if value is None else web_address(value)

    @model_validator(mode="after")
    def _whole_login(self) -> Self:
        """A provider is set whole or not at all: half of it would let nobody in, or leave a page open."""
        if self.oidc_metadata_url is None:
            return self
        missing = [
            variable for variable, value in (
                ("LOUPE_OIDC_CLIENT_ID", self.oidc_client_id), ("LOUPE_OIDC_CLIENT_SECRET", self.oidc_client_secret),
                ("LOUPE_PUBLIC_URL", self.public_url), ("LOUPE_OIDC_ADMINS", self.oidc_admins or self.oidc_users),
            ) if not value
        ]  # fmt: skip
        if missing:
            raise ValueError(f"LOUPE_OIDC_METADATA_URL also needs {' and '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _closed_to_the_network(self) -> Self:
        """Binding to the network fails closed: without a secret and named hosts anyone near could use the machine."""
        missing = [] if self.token or self.keys_file.is_file() or self.oidc_metadata_url else ["LOUPE_TOKEN"]
        missing += [] if "allowed_hosts" in self.model_fields_set and self.allowed_hosts else ["LOUPE_ALLOWED_HOSTS"]
        if missing and not self.loopback:
            raise ValueError(
                f"LOUPE_BIND is {self.bind}, which other machines can reach; set {' and '.join(missing)} as well"
                f"{' (instead of the token a key will do: python -m app keys create)' if not self.token else ''}, "
                "or leave LOUPE_BIND at 127.0.0.1"
            )
        return self

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the port."""
        return self.bind == "localhost" or ipaddress.ip_address(self.bind).is_loopback

    @property
    def signs_in_without_key(self) -> bool:
        """Whether an owner can come in by something else than a key: the token, or an identity provider."""
        return self.token is not None or self.oidc_metadata_url is not None

    @property
    def models_folder(self) -> Path:
        """The embedded runtime's own store, in Ollama's layout."""
        return self.data / "models"

    @property
    def keys_file(self) -> Path:
        """Where the keys are, once one was made (`services.key_file`)."""
        return self.data / "keys.json"

    @property
    def cache_folder(self) -> Path:
        return self.data / "cache"

    @property
    def history_url(self) -> str:
        return self.database_url or f"sqlite:///{self.data / 'loupe.db'}"


def settings_file() -> Path:
    """The TOML file that is read if it exists: `$LOUPE_CONFIG`, else `loupe.toml` in the data folder."""
    named = os.environ.get(FILE_VARIABLE)
    if named:
        return Path(named).expanduser()
    data = os.environ.get(PREFIX + "DATA")
    return (Path(data).expanduser() if data else default_data_folder()) / FILE_NAME
