"""`python -m app keys`, before Loupe runs, while it runs, and what a bind that others reach makes of a key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.served import ROOT, free_port, http, served_app

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("door")]


def keys(data: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LOUPE_", "OLLAMA_"))}
    return subprocess.run(
        [sys.executable, "-m", "app", "keys", *words], cwd=ROOT, capture_output=True, text=True, timeout=60,
        env={**clean, "LOUPE_DATA": str(data), **environment}, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_keys_are_made_before_the_first_start_and_while_it_runs_and_taken_back_at_once(tmp_path: Path) -> None:
    data, port = tmp_path / "data", free_port()
    outside = {"LOUPE_BIND": "0.0.0.0", "LOUPE_ALLOWED_HOSTS": "127.0.0.1", "OLLAMA_HOST": "127.0.0.1:9"}
    refused = keys(data, "create", "ci", **outside)
    assert refused.returncode == 1 and "scope admin" in refused.stderr and refused.stdout == ""
    boss = keys(data, "create", "boss", "--scope", "admin", **outside)
    assert boss.returncode == 0 and "shown once" in boss.stderr and "also your browser" in boss.stderr
    with served_app(data, port, **outside) as app:  # a key is as good as a token
        app.wait_ready("/healthz")
        url = f"{app.url}/api/version"
        own = {"Authorization": f"Bearer {boss.stdout.strip()}"}
        assert http(url)[0] == 401 and http(url, headers=own)[0] not in (0, 401, 403)
        made = keys(data, "create", "ci", "--per-minute", "5", "--model", "a:*", "--json", **outside)
        told = json.loads(made.stdout)
        own = {"x-api-key": told["secret"]}
        assert http(url, headers=own)[0] not in (0, 401, 403)
        listed = keys(data, "list", **outside)
        assert "boss" in listed.stdout and "5 per minute" in listed.stdout and "only a:*" in listed.stdout
        assert told["secret"] not in listed.stdout and boss.stdout.strip() not in listed.stdout
        assert keys(data, "revoke", "ci", **outside).stdout == f"ci ({told['key']['id']}) is revoked\n"
        assert http(url, headers=own)[0] == 401
        unknown = keys(data, "revoke", "nobody", **outside)
        assert unknown.returncode == 1 and "there is no key 'nobody'" in unknown.stderr
        assert app.terminate() == 0
    listed = keys(data, "list", "--json", **outside)
    assert [key["name"] for key in json.loads(listed.stdout)["keys"]] == ["ci", "boss"]
    assert keys(data, "revoke", "--all", "--yes", **outside).stdout == "2 keys are forgotten\n"
    assert "no key yet" in keys(data, **outside).stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("create",), "name"),
        (("create", "x", "--scope", "god"), "god"),
        (("create", "x", "--scope", "admin", "--per-minute", "0"), "above 0"),
        (("revoke",), "--all"),
        (("revoke", "x", "--all"), "--all"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_makes_nothing(
    tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    ended = keys(tmp_path / "data", *words)
    assert ended.returncode in (1, 2) and told in ended.stderr and "Traceback" not in ended.stderr
    assert not (tmp_path / "data" / "keys.json").exists()
