"""Settings: what is set and by whom, keys, aliases, hosts, backups, the check of the machine. One part at a time."""

from __future__ import annotations

from app.ui import notices, who
from app.ui.components import (
    copying,
    host_strip,
    job_tray,
    service_dialogs,
    settings_aliases,
    settings_backups,
    settings_check,
    settings_head,
    settings_hosts,
    settings_keys,
    settings_set,
)

VIEWS = {
    "What is set": settings_set.show,
    "Keys": settings_keys.show,
    "Aliases": settings_aliases.show,
    "Hosts": settings_hosts.show,
    "Backups": settings_backups.show,
    "Check": settings_check.show,
}

FOR_ALL = ("Keys", "Aliases", "Hosts")  # what one sees who administers nothing; no paths, no backups of others
FOR_SOME = ("Keys",)  # and with a key that is kept to some models

visitor = who.visits()
parts = list(VIEWS if visitor.admin else FOR_ALL if visitor.overview else FOR_SOME)
if visitor.overview:
    host_strip.show()
    job_tray.show()
with notices.showing_errors("settings"):
    VIEWS[settings_head.show(parts)]()
    service_dialogs.show()
copying.listen()
