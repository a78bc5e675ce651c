"""`audit-deps`: what is refused, what is only told, and how versions compare. Row 32 tries the command as a whole."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from app.cli_audit import FLOORS, audit, bill_of_materials, of_locks, of_sqlite, of_versions

HASH = "--hash=sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("package", "version", "refused"),
    [
        ("starlette", "1.0.9", True), ("starlette", "1.1", False), ("Starlette", "1.1.0rc1", True),
        ("starlette", "1.1.0.post1", False), ("python_multipart", "0.0.21", True),
        ("python.multipart", "0.0.22", False),
        ("streamlit", "1.9.0", True), ("streamlit", "1.54.0", False), ("xllamacpp", "2026.1.8145", True),
        ("xllamacpp", "2026.10.11549", False), ("xllamacpp", "0.2.8200", True), ("starlette", "unknown", True),
        ("another", "0.0.1", False),
    ],
)  # fmt: skip
def test_a_version_is_held_against_its_floor(package: str, version: str, refused: bool) -> None:
    found = list(of_versions([(package, version)], "installed"))
    assert [finding.refused for finding in found] == [True] * refused
    assert all("newer" in finding.text and "CVE-" in finding.text for finding in found)


def test_every_copy_of_a_package_is_looked_at(tmp_path: Path) -> None:
    for version in ("1.10.0", "1.0.0"):
        info = tmp_path / version / f"starlette-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: starlette\nVersion: {version}\n")
    assert len(audit([tmp_path / "1.10.0", tmp_path / "1.0.0"], [])) == 1


def _setuptools(folder: Path, recorded: bytes, there: bytes) -> Path:
    info = folder / "setuptools-80.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: setuptools\nVersion: 80.0\n")
    digest = urlsafe_b64encode(hashlib.sha256(recorded).digest()).rstrip(b"=").decode()
    (info / "RECORD").write_text(f"distutils-precedence.pth,sha256={digest},{len(recorded)}\n")
    (folder / "distutils-precedence.pth").write_bytes(there)
    return folder


def test_a_known_start_up_file_has_to_be_its_packages_own(tmp_path: Path) -> None:
    own = _setuptools(tmp_path / "own", b"import os; 1", b"import os; 1")
    altered = _setuptools(tmp_path / "altered", b"import os; 1", b"import os; 2")
    assert audit([own], [own]) == []
    assert [finding.refused for finding in audit([altered], [altered])] == [True]


def test_a_folder_among_the_packages_is_told_and_not_refused(tmp_path: Path) -> None:
    (tmp_path / "__editable__.mine.pth").write_text("/somewhere/else\n")
    assert [finding.refused for finding in audit([], [tmp_path])] == [False]


def test_a_lock_needs_a_hash_for_each_entry_and_no_version_below_its_floor(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        f"# made\na==1 \\\n    {HASH}\nb==2 ; python_version < '3.15'\nstarlette==1.0.0 \\\n    {HASH} \\\n    {HASH}\n"
    )
    told = [finding.text for finding in of_locks([lock])]
    assert told[0] == "requirements.lock has no hash for b"
    assert told[1].startswith("starlette 1.0.0 is in requirements.lock: ") and len(told) == 2
    lock.write_text("")
    assert [finding.text for finding in of_locks([lock, tmp_path / "none"])] == ["requirements.lock locks nothing"]


def test_an_old_sqlite_is_told_with_what_we_do_about_it() -> None:
    assert list(of_sqlite((3, 51, 3))) == []
    (found,) = of_sqlite((3, 51, 2))
    assert not found.refused and "one connection" in found.text


def test_the_bill_of_materials_names_what_is_installed() -> None:
    from importlib.metadata import distribution

    bill = bill_of_materials([distribution("starlette"), distribution("python-multipart")])
    assert [one["name"] for one in bill["components"]] == ["python-multipart", "starlette"]
    assert bill["components"][1]["purl"] == f"pkg:pypi/starlette@{distribution('starlette').version}"
    assert len({floor.package for floor in FLOORS}) == len(FLOORS)
