"""States of the Settings screen to look at."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from app.config_report import load_settings
from app.core.hardware import Gpu, GpuProcess, Gpus
from app.core.hosts import HostAddress, HostState, HostStatus
from app.services.access_keys import KeyLimits, KeyScope, KeyWish
from app.services.alias_values import read_alias
from app.services.checking.hosts import VariantPace
from app.services.checking.ports import Ports
from app.services.checking.system import Surroundings, SystemCheck
from app.ui import who
from tests.ui.fake_services import EMBEDDED, FakeServices

GIB = 1 << 30


def settings(services: FakeServices) -> str:
    return "/settings"


def settings_set(services: FakeServices) -> str:
    """Somebody set things, in every way, and the file was changed since the start."""
    file = _file(services, 'log_format = "json"\nslots = 2\n')
    os.environ |= {"LOUPE_TOKEN": "a-secret-of-ours", "LOUPE_HOSTS": "bench=http://192.168.1.20:11434;key=hush"}
    os.environ |= {"LOUPE_SLOTS": "4"}
    services.loaded = load_settings(port=8600)
    services.settings = services.loaded.settings
    file.write_text('log_format = "json"\nslots = 2\ncache_bytes = "4GiB"\nquee_limit = 8\n')
    return "/settings"


def settings_broken(services: FakeServices) -> str:
    """The next start would fail."""
    file = _file(services, "")
    services.loaded = load_settings()
    file.write_text("port = 99999\n")
    return "/settings"


def _file(services: FakeServices, text: str) -> Path:
    os.environ["LOUPE_DATA"] = str(services.settings.data)
    path = services.settings.data / "loupe.toml"
    path.write_text(text)
    return path


def settings_hosts(services: FakeServices) -> str:
    bench, away = HostAddress("bench", "http://192.168.1.20:11434", 4), HostAddress("away", "http://192.168.1.30:11434")
    services.pool.hosts = (
        HostStatus(EMBEDDED, HostState.HEALTHY, "0.33.0"),
        HostStatus(bench, HostState.HEALTHY, "0.33.0", busy_slots=2, draining=True, added=True),
        HostStatus(away, HostState.OFFLINE, error="connection refused"),
    )
    return "/settings?view=Hosts"


def settings_keys(services: FakeServices) -> str:
    services.run(made_keys(services))
    return "/settings?view=Keys"


async def made_keys(services: FakeServices) -> None:
    keys, usage = services.keys, services.key_usage
    keys.create(KeyWish("me", KeyScope.ADMIN))
    editor, _ = keys.create(KeyWish("editor", models=("qwen2.5-coder:*",), limits=KeyLimits(None, 2, 200_000)))
    keys.create(KeyWish("old laptop"))
    keys.create(KeyWish("grafana", KeyScope.READ))
    keys.revoke("old laptop")
    with usage.enter(editor.principal, "qwen2.5-coder:7b"):
        usage.charge(editor.principal, 12_345)


def settings_keys_empty(services: FakeServices) -> str:
    return "/settings?view=Keys"


def settings_aliases(services: FakeServices) -> str:
    services.aliases.problem = "no host has it"
    services.run(services.aliases.put(read_alias("coder", {
        "targets": ["best=qwen2.5-coder:7b", "qwen2.5-coder:3b@laptop"], "options": {"num_ctx": 16384},
        "guard": "refuse", "note": "for the editor",
    })))  # fmt: skip
    services.run(services.aliases.put(read_alias("small", {"targets": ["best=gone", "smollm2:135m-instruct-q4_K_M"]})))
    return "/settings?view=Aliases"


def settings_aliases_empty(services: FakeServices) -> str:
    return "/settings?view=Aliases"


def settings_backups(services: FakeServices) -> str:
    services.ask("What is the capital of France?")
    services.run(services.backups.make())
    services.ask("Why is the sky blue?")
    services.run(services.backups.make())
    return "/settings?view=Backups"


def settings_backups_empty(services: FakeServices) -> str:
    return "/settings?view=Backups"


def settings_check(services: FakeServices) -> str:
    """The true check, with GPUs, hosts and ports of which each has something to say."""
    held = GpuProcess(7, 12 * GIB, "ollama", "qwen2.5-coder:7b"), GpuProcess(9, 6 * GIB, "python3")
    slow = Gpu(
        0, "NVIDIA RTX 4090", memory_used=18 * GIB, memory_total=24 * GIB, throttled=("temperature",), processes=held
    )  # fmt: skip
    lost = Gpu(1, "NVIDIA RTX 4090", lost="the GPU does not answer any more: restart the machine")
    away = HostAddress("away", "http://192.168.1.30:11434")
    services.pool.hosts = (
        HostStatus(EMBEDDED, HostState.HEALTHY, "0.33.0", "loupe-runtime/0.9"),
        HostStatus(away, HostState.OFFLINE, error="connection refused"),
    )

    async def variants() -> tuple[VariantPace, ...]:
        return VariantPace("qwen2.5-coder:7b", 5 * GIB, 6.1), VariantPace("qwen2.5-coder:14b", 9 * GIB)

    async def there() -> Ports:
        return Ports(8501, "127.0.0.1", ours=True, usual_taken=True, ollama="0.33.0")

    services.check = SystemCheck(  # type: ignore[assignment]
        Surroundings(
            services.settings.data, lambda: Gpus((slow, lost), "570.86"), services.pool.statuses, variants,
            settings=lambda: [("LOUPE_HOSTS", "away=http://192.168.1.30:11434", "LOUPE_HOSTS")],
            warnings=["LOUPE_SLOT is not a setting and is ignored; did you mean LOUPE_SLOTS."], ports=there,
        ),
        bandwidth=lambda: 38e9,
    )  # fmt: skip
    return "/settings?view=Check"


def settings_member(services: FakeServices) -> str:
    """Somebody who may not change what is shared."""
    address = settings_hosts(services)
    who.visits = lambda: who.Who("ana", "Signed in with a key.", admin=False, signed_in=True)
    return address


SETTINGS_SCENES: dict[str, Callable[[FakeServices], str]] = {
    scene.__name__: scene
    for scene in (
        settings, settings_set, settings_broken, settings_keys, settings_keys_empty, settings_aliases,
        settings_aliases_empty, settings_hosts, settings_backups, settings_backups_empty, settings_check,
        settings_member,
    )
}  # fmt: skip
