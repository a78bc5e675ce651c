"""`python -m app check` where Loupe cannot even be asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.__main__ import main


def test_bad_settings_are_a_check_that_fails_in_json_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOUPE_DATA", str(tmp_path))
    monkeypatch.setenv("LOUPE_PORT", "a port")
    assert main(["check", "--json"]) == 1
    (check,) = json.loads(capsys.readouterr().out)["checks"]
    assert (check["name"], check["status"]) == ("settings", "fail") and check["advice"]
    assert check["found"] == "LOUPE_PORT: 'a port' is not allowed. Allowed: 0 to 65535."
    assert main(["check"]) == 1
    assert "One thing does not work: settings." in capsys.readouterr().out
