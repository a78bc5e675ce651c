"""The verbs and the locks, as far as they can be told from their files; tests/contract/test_tasks.py runs them."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tooling.console import TaskFailed
from tooling.image import BUILDERS
from tooling.locks import CLIENTS, CLIENTS_HEADER, CLIENTS_LOCK, HEADER, fingerprint, pinned, without_packages
from tooling.pip_install import EMBEDDED, meaning
from tooling.verbs import VERBS

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def wanted() -> dict[str, list[Requirement]]:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    optional = project["optional-dependencies"]
    runtime = [Requirement(word) for word in [*project["dependencies"], *optional["embedded"]]]
    return {LOCKS[0]: runtime, LOCKS[1]: [*runtime, *(Requirement(word) for word in optional["dev"])]}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_was_made_from_pyproject_as_it_is(lock):
    assert read(lock).startswith(HEADER + fingerprint(read("pyproject.toml"))), "run: make lock"


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_every_dependency_within_its_bounds(lock):
    pins = pinned(read(lock))
    for requirement in wanted()[lock]:
        version = pins.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not locked"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} is locked at {version}"


def test_the_dev_lock_has_every_pin_of_the_runtime_lock():
    runtime, dev = (pinned(read(lock)) for lock in LOCKS)
    assert {name: dev.get(name) for name in runtime} == runtime


def test_the_lock_of_the_clients_was_made_from_what_is_asked_for_and_the_page_names_the_versions():
    assert read(CLIENTS_LOCK).startswith(CLIENTS_HEADER + hashlib.sha256(read(CLIENTS).encode()).hexdigest())
    asked = dict(re.findall(r"^([a-z-]+)==(\S+)$", read(CLIENTS), flags=re.MULTILINE))
    assert len(asked) == 7 and asked.items() <= pinned(read(CLIENTS_LOCK)).items()
    page = read("docs/clients.md")
    assert all(f"{name}=={version}" in page for name, version in asked.items())
    assert read("tests/clients/go.txt").strip() in page
    locked = json.loads(read("tests/clients/npm/package-lock.json"))["packages"]
    for name, npm in json.loads(read("tests/clients/npm/package.json"))["dependencies"].items():
        package = locked[f"node_modules/{name}"]
        assert (package["version"], "resolved" in package) == (npm, False) and f"{name}@{npm}" in page


@pytest.mark.parametrize("lock", (*LOCKS, CLIENTS_LOCK))
def test_a_lock_has_hashes_and_no_addresses(lock):
    text = read(lock)
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(pinned(text))
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    assert "index-url" not in text


def test_every_dependency_has_its_reason():
    block = read("pyproject.toml").split("dependencies = [", 1)[1].split("[tool.setuptools]")[0]
    lines = block.splitlines()
    speechless = [
        line
        for before, line in zip(lines, lines[1:], strict=False)
        if line.startswith('  "') and " # " not in line and not before.startswith("  #")
    ]
    assert speechless == []


def test_the_fingerprint_follows_dependencies_and_nothing_else():
    text = read("pyproject.toml")
    assert fingerprint(text.replace("line-length = 120", "line-length = 99")) == fingerprint(text)
    assert fingerprint(text.replace('"structlog>=25.1"', '"structlog>=25.2"')) != fingerprint(text)


def test_packages_leave_a_lock_with_their_hashes():
    kept = "# head\na==1 \\\n    --hash=sha256:aa\n    # via x\n"
    gone = "b==2 ; python_version < '4' \\\n    --hash=sha256:bb\n"
    assert without_packages(f"{kept}{gone}c==3\n", ("b",)) == f"{kept}c==3\n"


def test_the_embedded_packages_are_in_the_lock_under_the_names_that_leave_it():
    assert set(EMBEDDED) <= set(pinned(read(LOCKS[0])))
    assert not set(EMBEDDED) & set(pinned(without_packages(read(LOCKS[0]), EMBEDDED)))


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (
            "NewConnectionError: [Errno 111] Connection refused\nERROR: No matching distribution found for a==1",
            "reached",
        ),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "no space"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "not the one in the lock"),
        ("ERROR: No matching distribution found for a==1", "no wheel"),
        ("noise\nERROR: something else\nmore noise", "something else"),
        ("", "said nothing"),
    ],
)
def test_what_pip_says_becomes_one_line(output, said):
    assert said in meaning(output)
    assert "\n" not in meaning(output)


def test_the_makefile_is_a_thin_face():
    lines = read("Makefile").splitlines()
    verbs = next(line for line in lines if line.startswith("VERBS = ")).split()[2:]
    assert set(verbs) == set(VERBS)
    assert sum(line.startswith("\t") for line in lines) == 1


def test_every_verb_says_what_it_does_in_one_line():
    assert all(function.__doc__ and "\n" not in function.__doc__ for function in VERBS.values())


def test_the_documents_name_the_verbs():
    text = read("docs/development.md")
    assert [name for name in VERBS if f"`{name}`" not in text] == []


def test_the_readme_gives_both_commands_with_and_without_make():
    text = read("README.md")
    assert all(command in text for command in ("make run", "make test", "tasks.py run", "tasks.py test"))


def test_ci_runs_what_the_readme_says():
    commands = [line for line in read(".ci/run").splitlines() if line and not line.startswith("#")]
    assert len(commands) == 1
    assert commands[0].endswith("exec make test")


def test_the_entry_can_be_read_by_an_old_python():
    """It has to say which Python is missing; f-strings and annotations would be a syntax error to some."""
    tree = ast.parse(read("tasks.py"), feature_version=(3, 4))
    modern = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.Match, ast.AsyncFunctionDef)
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, modern)]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert functions
    assert not [f.name for f in functions if f.returns or any(argument.annotation for argument in f.args.args)]


def test_the_tooling_needs_the_standard_library_alone():
    import sys

    foreign = set()
    for path in [ROOT / "tasks.py", *(ROOT / "tooling").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            foreign |= {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"tooling"}
    assert foreign == set()


def test_without_a_builder_the_image_says_what_to_install(monkeypatch, tmp_path):
    from tooling.image import builder

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TaskFailed, match="buildah"):
        builder()
    assert set(BUILDERS) == {"docker", "podman", "buildah"}


def test_the_version_is_in_the_changelog():
    from app import __version__

    assert f"## {__version__}" in read("CHANGELOG.md")
