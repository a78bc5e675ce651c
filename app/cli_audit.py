"""`python -m app audit-deps`: nothing that is installed or locked has a hole that is known here, and nothing starts
itself. No network is needed; of model hosts it asks the version, where they answer.

Exit status: 0 nothing is refused (there may be warnings), 1 something is.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import site
import sqlite3
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from app.core.hosts import HostAddress
from app.services.host_versions import version_warnings

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", "requirements-dev.lock")
REFUSED = 1
HOST_SECONDS = 1.0
SQLITE_SOUND = (3, 51, 3)
LLAMA_SOUND = 8146  # CVE-2026-27940, and with it the overflows that CVE-2025-53630 was about


@dataclass(frozen=True, slots=True)
class Floor:
    """The oldest version of a package without the holes that `why` names."""

    package: str
    version: str
    why: str


FLOORS = (
    Floor("starlette", "1.1.0", "CVE-2026-48710 (Host header), CVE-2026-48818 (UNC paths), CVE-2025-62727 (Range)"),
    Floor("python-multipart", "0.0.22", "CVE-2024-53981 (endless boundary), CVE-2026-24486 (files outside the folder)"),
    Floor("streamlit", "1.54.0", "CVE-2026-33682 and CVE-2026-10804 (UNC paths)"),
    Floor("xllamacpp", f"0.0.{LLAMA_SOUND}", "CVE-2026-27940 (a model file writes outside its memory)"),
)  # fmt: skip
# Start-up files that are known, and the package each one has to come from.
START_FILES = {"distutils-precedence.pth": "setuptools", "a1_coverage.pth": "coverage", "_virtualenv.pth": ""}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: refused, or worth a warning."""

    text: str
    refused: bool = True

    def __str__(self) -> str:
        return f"{'refused' if self.refused else 'warning'}: {self.text}"


def add_command(commands: Any) -> None:
    audit = commands.add_parser("audit-deps", help="refuse known-bad versions, stray start-up files and unhashed locks")
    audit.add_argument(
        "--sbom", type=Path, metavar="FILE", help="also write what is installed there, as CycloneDX JSON"
    )
    audit.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from app.config_report import load_settings

    settings = load_settings().settings
    hosts = settings.hosts or ((HostAddress("ollama", settings.ollama_host),) if settings.ollama_host else ())
    packages = [Path(place) for place in dict.fromkeys(sys.path) if place and Path(place).is_dir()]
    found = [
        *audit(packages, site_folders()),
        *of_locks([ROOT / name for name in LOCKS]),
        *of_sqlite(sqlite3.sqlite_version_info),
    ]
    for host in hosts:
        found += of_host(host)
    for finding in found:
        print(finding, file=sys.stderr)
    if options.sbom is not None:
        options.sbom.write_text(json.dumps(bill_of_materials(list(distributions())), indent=1), encoding="utf-8")
    refused = sum(finding.refused for finding in found)
    print(
        f"{refused} refused, {len(found) - refused} warnings; {len(FLOORS)} packages with known holes were looked for"
    )
    return REFUSED if refused else 0


def audit(packages: Sequence[Path], starting: Sequence[Path]) -> list[Finding]:
    """What is installed in the folders `packages`, every copy of it, and what in the folders `starting` runs whenever
    Python starts."""
    installed = list(distributions(path=[str(folder) for folder in packages]))
    found = [*of_versions([(one.name, one.version) for one in installed], "installed")]
    for folder in starting:
        found += of_start_files(folder, installed)
    return found


def site_folders() -> list[Path]:
    """Where this Python reads start-up files."""
    places = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()}
    if site.ENABLE_USER_SITE:
        places.add(site.getusersitepackages())
    return sorted(path for place in places if (path := Path(place)).is_dir())


def of_versions(versions: Iterable[tuple[str, str]], how: str) -> Iterator[Finding]:
    """Those that are older than their floor. `how`: installed, or locked in which file."""
    floors = {floor.package: floor for floor in FLOORS}
    for name, version in versions:
        floor = floors.get(_normal(name))
        if floor is not None and _older(_comparable(floor.package, version), floor.version):
            oldest = f"llama.cpp b{LLAMA_SOUND}" if floor.package == "xllamacpp" else floor.version
            yield Finding(f"{floor.package} {version} is {how}: {floor.why}; take {oldest} or newer")


def of_start_files(folder: Path, installed: Sequence[Distribution]) -> Iterator[Finding]:
    """Files by which code runs unasked whenever Python starts (a way in for whoever altered a package)."""
    for path in sorted(folder.glob("*.pth")):
        owner = START_FILES.get(path.name)
        if owner is not None and (not owner or any(_is_as_recorded(one, owner, path) for one in installed)):
            continue
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        if any(line.startswith(("import ", "import\t")) for line in lines):
            yield Finding(
                f"{path} runs code whenever Python starts, and is none of the known ones; look into it and remove it"
            )
        else:
            yield Finding(f"{path} puts other folders among the packages", refused=False)
    for name in ("sitecustomize.py", "usercustomize.py"):
        if (folder / name).exists():
            yield Finding(f"{folder / name} runs whenever Python starts; look into it and remove it")


def _is_as_recorded(one: Distribution, owner: str, path: Path) -> bool:
    """Whether `one` is the owner and installed exactly this file."""
    import base64
    import hashlib

    if _normal(one.name) != owner:
        return False
    digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
    return any(
        file.name == path.name and file.hash is not None and file.hash.value == digest for file in one.files or ()
    )


def of_locks(locks: Sequence[Path]) -> Iterator[Finding]:
    """Entries without a hash, and versions below their floor. A lock that is not there is not looked at."""
    for lock in locks:
        if not lock.exists():
            continue
        entries = re.findall(
            r"^([A-Za-z0-9._-]+)==([^\s;\\]+)((?:.*\\\n)*.*)", lock.read_text(encoding="utf-8"), re.MULTILINE
        )
        if not entries:
            yield Finding(f"{lock.name} locks nothing")
        bare = [name for name, _, rest in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", rest)]
        yield from (Finding(f"{lock.name} has no hash for {name}") for name in bare)
        yield from of_versions([(name, version) for name, version, _ in entries], f"in {lock.name}")


def of_sqlite(version: tuple[int, ...]) -> Iterator[Finding]:
    if version < SQLITE_SOUND:
        told = ".".join(map(str, version))
        yield Finding(
            f"SQLite {told} may damage a file that two connections write at once (mended in 3.51.3); Loupe's history "
            "has one connection alone", refused=False,
        )  # fmt: skip


def of_host(host: HostAddress) -> Iterator[Finding]:
    """What is known against the Ollama there, where it answers."""
    where = urlsplit(host.url)
    kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
    connection = kind(where.hostname or "", where.port, timeout=HOST_SECONDS)
    try:
        connection.request("GET", "/api/version", headers={"Authorization": f"Bearer {host.key}"} if host.key else {})
        answer = connection.getresponse()
        told = json.loads(answer.read(1 << 16))
        version, server = str(told["version"]), answer.headers.get("Server", "")
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return
    finally:
        connection.close()
    yield from (Finding(f"host {host.name}: {one.text}", refused=False) for one in version_warnings(version, server))


def bill_of_materials(installed: Sequence[Distribution]) -> dict[str, Any]:
    """CycloneDX 1.6: what is installed, with what each says of its licence."""
    components = []
    for one in sorted(installed, key=lambda one: _normal(one.name)):
        name, licence = _normal(one.name), "".join(one.metadata.get_all("License-Expression") or ())
        component: dict[str, Any] = {"type": "library", "name": name, "version": one.version}
        component |= {"bom-ref": (reference := f"pkg:pypi/{name}@{one.version}"), "purl": reference}
        components.append(component | ({"licenses": [{"expression": licence}]} if licence else {}))
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _comparable(package: str, version: str) -> str:
    """xllamacpp's third number is the build of llama.cpp; its first versions had none."""
    if package != "xllamacpp":
        return version
    found = re.match(r"20\d\d\.\d+\.(\d+)", version)
    return f"0.0.{found[1]}" if found else "0.0.0"


def _older(version: str, floor: str) -> bool:
    """By release numbers; a pre-release comes before its release."""
    found = re.match(r"v?(\d+(?:\.\d+)*)(.*)", version)
    if found is None:
        return True
    release, least = ([int(part) for part in text.split(".")] for text in (found[1], floor))
    width = max(len(release), len(least))
    release, least = ([*numbers, *[0] * (width - len(numbers))] for numbers in (release, least))
    return release < least or (
        release == least and re.match(r"[._-]?(a|b|c|rc|dev|alpha|beta|pre)", found[2]) is not None
    )
