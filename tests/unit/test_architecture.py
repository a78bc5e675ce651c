"""The law of the source tree: who may import whom, how long a file may be, which names and calls are not to be used."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
APP = ROOT / "app"
FILE_CEILING, SCREEN_CEILING = 400, 60

# Which of our packages each one may import. A package may always import itself; the leaves of the table are
# modules directly under app/. What is not listed may not be imported.
LAW: dict[str, set[str]] = {
    "core": set(),
    "wire": {"core"},
    "config": {"core", "host_urls"},
    "host_urls": {"core"},
    "host_resolution": {"core", "config", "host_urls", "backends"},
    "connection_limits": set(),
    "log_setup": {"core", "config"},
    "cli": {"core", "config", "instance", "comparison", "services"},
    "backends": {"core", "wire", "config"},
    "runtime": {"core", "wire", "models"},
    "services": {"core", "wire", "models"},
    "models": {"core", "wire"},
    "comparison": {"core", "wire", "services", "models"},
    "gateway": {"core", "wire", "services", "models", "comparison", "config", "bootstrap", "connection_limits"},
    "ui": {"core", "services", "models", "comparison", "config", "bootstrap", "instance"},
    "instance": {"core", "config", "bootstrap"},
    "bootstrap": {
        "core",
        "wire",
        "config",
        "backends",
        "services",
        "models",
        "comparison",
        "host_resolution",
        "host_urls",
    },
}
# Of a permitted package, these modules alone.
ONLY = {
    ("cli", "comparison"): {
        "app.comparison.load_lab",
        "app.comparison.question_set",
        "app.comparison.report",
        "app.comparison.result_json",
        "app.comparison.results",
    },
    ("cli", "services"): {
        "app.services.access_keys",
        "app.services.alerting",
        "app.services.checking",
        "app.services.host_versions",
        "app.services.key_usage",
    },
    ("runtime", "models"): {
        "app.models.gguf",
        "app.models.ggml",
        "app.models.machine_memory",
        "app.models.memory_fit",
        "app.models.naming",
        "app.models.quantizer",
    },
}
ASSEMBLERS = {"asgi", "__main__", "__init__", "serving"}  # put everything together and run it

# Third-party packages that are fenced in: import name to the packages (or modules) of ours that may use it.
FENCES: dict[str, set[str]] = {
    "streamlit": {"ui", "asgi", "__main__"},
    "httpx": set(),  # aiohttp carries everything: a request takes a third less CPU
    "aiohttp": {"backends", "runtime"},
    "ollama": {"backends"},
    "xllamacpp": {"runtime"},
    "libggml": {"models"},
    "vl_convert": {"app.backends.chart_renderer"},  # 200 MB of memory: a process of its own
    "gguf": {"models", "runtime"},
    "opentelemetry": {"app.backends.otlp_http"},  # loaded with the first spans that are exported
    "pandas": set(),
    "pickle": set(),
    "requests": set(),
    "sqlalchemy": {"services"},
    "starlette": {"gateway", "runtime", "asgi", "app.ui.assets"},  # assets: the routes of fonts and styles
}


@dataclass(frozen=True, slots=True)
class Source:
    """One Python file of app/: its dotted name, text and syntax tree."""

    path: Path
    module: str
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """The name right under app: a package, or a module directly there; config_values belongs to config."""
        parts = self.module.split(".")
        return package_of(parts[1]) if len(parts) > 1 else "__init__"

    @property
    def where(self) -> str:
        return str(self.path.relative_to(ROOT))


def package_of(name: str) -> str:
    return next((family for family in ("bootstrap", "config", "cli") if name.startswith(f"{family}_")), name)


@cache
def sources() -> tuple[Source, ...]:
    found = []
    for path in sorted(APP.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        found.append(Source(path, module, text, ast.parse(text)))
    assert len(found) > 10, "the tests of the tree found no tree"
    return tuple(found)


def imports(source: Source) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that is imported, wherever in the file."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source.where}:{node.lineno}: relative import"
            base = node.module or ""
            # `from app.services import chat` names the module app.services.chat
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def calls(source: Source) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that is read as `a.b.c` or called as `a`."""
    for node in ast.walk(source.tree):
        if isinstance(node, (ast.Attribute, ast.Name)):
            yield node.lineno, ast.unparse(node) if _is_dotted(node) else ""


def _is_dotted(node: ast.AST) -> bool:
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


def broken_law(source: Source) -> Iterator[str]:
    if source.package in ASSEMBLERS:
        return
    allowed = LAW[source.package]
    for line, name in imports(source):
        top, _, rest = name.partition(".")
        target = package_of(rest.partition(".")[0])
        if top != "app" or target in ("", source.package, "__version__"):
            continue
        prefixes = ONLY.get((source.package, target))
        if target not in allowed or (prefixes and not name.startswith(tuple(prefixes))):
            yield f"{source.where}:{line} imports {name}"


def test_every_package_has_its_law():
    assert {source.package for source in sources()} - ASSEMBLERS - set(LAW) == set()


def test_imports_follow_the_law():
    assert [fault for source in sources() for fault in broken_law(source)] == []


def test_the_law_catches_a_breach():
    text = "from app.gateway import streaming\nimport app.ui.state\nfrom app.core.errors import LoupeError\n"
    breach = Source(APP / "services" / "x.py", "app.services.x", text, ast.parse(text))
    assert len(list(broken_law(breach))) == 2


def test_core_uses_the_standard_library_alone():
    foreign = [
        f"{source.where}:{line} imports {name}"
        for source in sources()
        if source.package == "core"
        for line, name in imports(source)
        if name.partition(".")[0] not in sys.stdlib_module_names | {"app"}
    ]
    assert foreign == []


def test_fenced_packages_stay_where_they_belong():
    strays = [
        f"{source.where}:{line} imports {name}"
        for source in sources()
        for line, name in imports(source)
        if not {source.package, source.module} & FENCES.get(name.partition(".")[0], {source.package})
    ]
    assert strays == []


def test_pydantic_is_for_boundaries():
    """Wire shapes, settings and prompt files; values inside are frozen dataclasses."""
    places = {"wire", "config"}
    strays = [
        source.where
        for source in sources()
        for _, name in imports(source)
        if name.startswith("pydantic") and source.package not in places and "prompt" not in source.module
    ]
    assert strays == []


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("os.environ", {"config", "__main__", "runtime"}),  # the runtime reads Ollama's own server settings
        ("os.getenv", {"config", "__main__", "runtime"}),
        (
            "time.time",
            {"core", "wire", "runtime", "ui"},
        ),  # it may jump: for moments, not for durations
        ("st.write_stream", set()),
        ("streamlit.write_stream", set()),
        ("st.dataframe", set()),
        ("st.line_chart", set()),
        ("st.altair_chart", set()),
        ("eval", set()),
        ("exec", set()),
    ],
)
def test_a_banned_name_is_used_nowhere_else(name, allowed):
    uses = [
        f"{source.where}:{line}"
        for source in sources()
        if source.package not in allowed
        for line, used in calls(source)
        if used == name or used.startswith(f"{name}.")
    ]
    assert uses == []


def test_a_fragment_has_a_place_of_its_own():
    """Why is said in the module that gives it one."""
    places = [source.module for source in sources() if "st.fragment" in source.text]
    assert places == ["app.ui.fragments"]


def test_no_async_function_sleeps_its_thread():
    """time.sleep stops the loop, and every stream on it."""
    sleeps = [
        f"{source.where}:{node.lineno}"
        for source in sources()
        for function in ast.walk(source.tree)
        if isinstance(function, ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep")
    ]
    assert sleeps == []


def test_nothing_is_swallowed_in_silence():
    """`except Exception: pass`, or a bare `except:`, hides what nobody thought of."""
    silent = [
        f"{source.where}:{node.lineno}"
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
        and all(isinstance(statement, ast.Pass) for statement in node.body)
    ]
    assert silent == []


def test_files_stay_readable_in_one_sitting():
    long = {
        source.where: lines
        for source in sources()
        if (lines := source.text.count("\n"))
        > (SCREEN_CEILING if "screens" in source.path.parts and source.path.stem != "__init__" else FILE_CEILING)
    }
    assert long == {}


def test_no_name_at_script_level_hides_another_package():
    """Streamlit puts app/ and app/ui/ on sys.path: a file sched.py there would win over the standard library's."""
    foreign = set(sys.stdlib_module_names) | set(packages_distributions()) - {"app", "tests", "tooling", "benchmarks"}
    shadows = [
        str(path.relative_to(ROOT))
        for folder in (APP, APP / "ui")
        for path in folder.iterdir()
        if path.stem in foreign and path.stem not in ("__init__", "__main__", "__pycache__")
    ]
    assert shadows == []


def test_no_folder_or_file_is_a_drawer_for_everything():
    vague = {"utils", "util", "helpers", "common", "misc", "pages"}
    drawers = [source.where for source in sources() if vague & {Path(part).stem for part in source.path.parts}]
    assert drawers == []


def test_every_module_says_what_it_is():
    speechless = [source.where for source in sources() if source.text and ast.get_docstring(source.tree) is None]
    assert speechless == []


def test_what_is_imported_is_declared():
    """A package that only comes along with another may leave with it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    words = [*project["dependencies"], *project["optional-dependencies"]["embedded"]]
    declared = {Requirement(word).name.lower().replace("_", "-") for word in words}
    owners = packages_distributions()
    strays = set()
    for source in sources():
        for _, name in imports(source):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top == "app":
                continue
            if not {owner.lower().replace("_", "-") for owner in owners.get(top, [])} & declared:
                strays.add(f"{source.where} imports {top}")
    assert sorted(strays) == []


@cache
def tracked() -> tuple[Path, ...]:
    """The files of the repository; where git cannot tell, those in the places where ours lie."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
        if listed.returncode == 0:
            return tuple(path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file())
    folders = ("app", "tests", "tooling", "prompts", "docs", "benchmarks", ".ci")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*")] + list(ROOT.iterdir())
    return tuple(path for path in found if path.is_file() and "__pycache__" not in path.parts)


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def test_no_file_names_a_registry_or_a_path_of_one_machine():
    hosts = ["py" + "pi.org", "python" + "hosted.org", "npm" + "js.", "deb." + "debian"]
    paths = ["/wo" + "rk/", "/fa" + "rm/", "/ro" + "ot/", "/ho" + "me/"]
    named = [
        f"{path.relative_to(ROOT)}: {word}" for path in tracked() for word in hosts + paths if word in text_of(path)
    ]
    assert named == []


def test_no_test_reads_outside_the_repository():
    """Recordings are committed under tests/data; a folder beside the checkout is on one machine only."""
    strays = []
    for path in tracked():
        name = path.relative_to(ROOT)
        if path.suffix != ".py" or name.parts[0] != "tests":
            continue
        text = text_of(path)
        climbs = [int(number) for number in re.findall(r"parents\[(\d+)\]", text)]
        if max(climbs, default=0) >= len(name.parts) or re.search(r"[\"'/]sha" + r"red[\"'/]", text):
            strays.append(str(name))
    assert strays == []


def test_there_is_one_kind_of_lock():
    assert not (ROOT / "uv.lock").exists()
    assert not [path for path in tracked() if path.name in ("uv.lock", "poetry.lock", "Pipfile.lock")]


def sleeps(tree: ast.AST, polling: bool = False) -> Iterator[ast.Call]:
    """Sleeps outside of a `while` loop; sleep(0) only lets others run."""
    for node in ast.iter_child_nodes(tree):
        call = ast.unparse(node) if isinstance(node, ast.Call) else ""
        if not polling and re.match(r"(time|asyncio|anyio)\.sleep\((?!0\))", call):
            yield node
        yield from sleeps(node, polling or isinstance(node, ast.While))


def test_tests_do_not_sleep_for_a_guess():
    """They wait for events, or poll a real process until a deadline; hoping to sleep long enough is neither."""
    # a slow host sleeps because it is slow, a writing model because it writes; virtual time passes by itself
    stand_ins = {"stub_ollama.py", "faultproxy.py", "fakes.py", "hostile_scenes.py", "virtual_time.py"}
    guesses = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in tracked()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] == "tests" and path.name not in stand_ins
        for node in sleeps(ast.parse(text_of(path)))
    ]
    assert guesses == []
