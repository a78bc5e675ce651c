"""What the Settings screen says. Pure: values in, words out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from app.config_picture import Origin, Picture, SettingRow
from app.services.history_file import Backup, Missing
from app.ui import view_models as vm
from app.ui.notices import Notice

EVERYTHING, CHANGED = "All", "Set by someone"


def chosen_rows(rows: Iterable[SettingRow], text: str, which: str) -> tuple[SettingRow, ...]:
    """Those that hold every word of the text, in their name, value or explanation."""
    words = text.lower().split()
    return tuple(
        row
        for row in rows
        if (which != CHANGED or row.origin is not Origin.DEFAULT or row.next_value is not None)
        and all(word in f"{row.variable} {row.value} {row.help} {row.group}".lower() for word in words)
    )


def by_group(rows: Iterable[SettingRow]) -> dict[str, list[SettingRow]]:
    groups: dict[str, list[SettingRow]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return groups


def nothing_found(text: str) -> str:
    return (
        f"No setting has “{text.strip()}” in it." if text.strip() else "Everything is as it comes: nobody set anything."
    )


def limits(row: SettingRow) -> str:
    """What it accepts, and what holds where nobody sets it."""
    allowed = f"Allowed: {row.allowed}." if row.allowed else ""
    default = f"Default: {row.default}." if row.origin is not Origin.DEFAULT else ""
    return " ".join(part for part in (allowed, default) if part)


def as_text(rows: Sequence[SettingRow]) -> str:
    """For the clipboard: one setting a line, with who set it."""
    return "\n".join(f"{row.variable}={row.value}  # {row.origin}" for row in rows)


def notices_of(picture: Picture) -> tuple[tuple[str, Notice], ...]:
    """What has to be said above the list, each under a key."""
    told: list[tuple[str, Notice]] = []
    if picture.problems:
        told.append(("problems", Notice("The next start would fail", " ".join(picture.problems))))
    if waiting := picture.waiting:
        changes = ", ".join(f"{row.variable} becomes {row.next_value}" for row in waiting)
        title = f"{vm.count(len(waiting), 'setting')} {'waits' if len(waiting) == 1 else 'wait'} for a restart"
        told.append(("waiting", Notice(title, vm.sentence(changes), tone="warn")))
    if picture.warnings:
        told.append(("warnings", Notice("Looks like a mistake", " ".join(picture.warnings), tone="warn")))
    return tuple(told)


def where_from(picture: Picture) -> str:
    """Where settings come from, and when a change is heard."""
    file = "the file" if picture.file_exists else "a file, which does not exist yet,"
    return (
        f"Read once, when Loupe starts: the command line goes before the environment, that before {file} "
        f"{picture.file}. After a change, start Loupe again; what the other parts of this screen change needs none."
    )


# -- backups ----------------------------------------------------------------------------------------------------------


def backup_when(backup: Backup) -> str:
    return time.strftime("%a %d %b %Y, %H:%M", time.localtime(backup.made_at))


def backup_facts(backup: Backup, now: float) -> str:
    return " · ".join(
        (
            vm.count(backup.conversations, "conversation"),
            vm.kibibytes(backup.size),
            vm.ago(max(0.0, now - backup.made_at)),
        )
    )


def restore_words(missing: Missing) -> tuple[str, ...]:
    """What bringing a backup back would do, before it is done."""
    if not missing.conversations and not missing.messages:
        return ("Everything in this backup is here already. There is nothing to bring back.",)
    return (
        f"Adds {vm.count(missing.conversations, 'conversation')} and {vm.count(missing.messages, 'message')} that are "
        "not here now.",
        "Nothing that is here is replaced or deleted. A chat that you deleted lately stays deleted.",
    )


def came_back(conversations: int) -> str:
    return f"{vm.count(conversations, 'conversation')} came back" if conversations else "Nothing was missing"
