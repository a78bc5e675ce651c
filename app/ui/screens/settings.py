"""Settings: what is set and by whom, keys, aliases, hosts, backups, and who one is. Its parts, one shown at a time."""

from __future__ import annotations

from app.ui import notices
from app.ui.components import (
    copying,
    host_strip,
    job_tray,
    service_dialogs,
    settings_aliases,
    settings_backups,
    settings_head,
    settings_hosts,
    settings_set,
)

VIEWS = {
    "What is set": settings_set.show,
    "Aliases": settings_aliases.show,
    "Hosts": settings_hosts.show,
    "Backups": settings_backups.show,
}

host_strip.show()
job_tray.show()
with notices.showing_errors("settings"):
    VIEWS[settings_head.show(list(VIEWS))]()
    service_dialogs.show()
copying.listen()
