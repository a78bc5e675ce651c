"""The image and the compose file, as far as their text can promise; docs/development.md says how they are built."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tooling import image

ROOT = Path(__file__).parents[2]


def dockerfile() -> list[str]:
    """The instructions, continued lines joined, comments left out."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def compose() -> dict:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


def instructions(name: str) -> list[str]:
    return [line.split(maxsplit=1)[1] for line in dockerfile() if line.startswith(f"{name} ")]


def test_both_stages_stand_on_the_slim_debian():
    assert [words.split(" AS ")[0] for words in instructions("FROM")] == ["docker.io/library/debian:bookworm-slim"] * 2


def test_it_runs_as_nobody_in_particular():
    assert instructions("USER") == ["loupe"]
    lines = dockerfile()
    assert lines.index("USER loupe") < next(i for i, line in enumerate(lines) if line.startswith("ENTRYPOINT"))


def test_it_is_installed_from_the_lock_with_hashes():
    [install] = [line for line in instructions("RUN") if "pip install" in line]
    assert all(word in install for word in ("--require-hashes", "--only-binary=:all:", "-r requirements.lock"))


def test_no_secret_is_baked_in():
    """A token in ENV or ARG would be in every copy; without one Loupe does not start on 0.0.0.0."""
    words = " ".join(instructions("ENV") + instructions("ARG"))
    assert "LOUPE_BIND=0.0.0.0" in words
    assert not re.search(r"TOKEN|KEY|SECRET|INDEX_URL", words)


def test_everything_it_copies_is_let_through_and_nothing_else():
    copied = {line.split()[0].rstrip("/") for line in instructions("COPY") if not line.startswith("--from")}
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignore
    assert {line[1:] for line in ignore if line.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)


def test_its_health_is_asked_by_the_product_itself():
    [check] = instructions("HEALTHCHECK")
    assert check.endswith('CMD [".venv/bin/python", "-m", "app", "health"]')


def test_compose_publishes_on_loopback_only_and_wants_a_token():
    services = compose()
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service.get("ports", ()))
    assert "ports" not in services["ollama"]
    assert services["loupe"]["environment"]["LOUPE_TOKEN"].startswith("${LOUPE_TOKEN:?")
    assert services["loupe"]["environment"]["OLLAMA_HOST"] == "http://ollama:11434"


def test_compose_keeps_data_and_comes_back():
    for service in compose().values():
        assert service["volumes"]
        assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("setting", ["LOUPE_TOKEN", "LOUPE_ALLOWED_HOSTS", "LOUPE_BIND", "LOUPE_DATA", "LOUPE_PORT"])
def test_the_settings_it_names_exist(setting):
    text = (ROOT / "Dockerfile").read_text() + (ROOT / "compose.yaml").read_text()
    assert setting in text
    assert f"`{setting}`" in (ROOT / "docs" / "settings.md").read_text()


def test_the_network_of_the_machine_reaches_the_build_as_secrets_alone(monkeypatch, tmp_path):
    for name in (*image.PIP_OPTIONS, *image.PROXIES, "PIP_CERT", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert image.network(tmp_path) == []
    monkeypatch.setenv("PIP_INDEX_URL", "http://someone:secret@127.0.0.1/simple")
    monkeypatch.setenv("PIP_CERT", "/certificates.pem")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:3128")
    words = image.network(tmp_path)
    assert words == [
        *("--secret", f"id=pip.conf,src={tmp_path / 'pip.conf'}"),
        *("--secret", "id=certificates,src=/certificates.pem"),
        *("--build-arg", "https_proxy"),  # its value stays in the environment of the builder
    ]
    assert "secret@" in (tmp_path / "pip.conf").read_text()
