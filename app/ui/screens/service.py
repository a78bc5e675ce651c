"""Service: what the layer between clients and models is doing right now, and what it keeps."""

from __future__ import annotations

from app.ui import notices
from app.ui.components import (
    cache_view,
    host_strip,
    job_tray,
    service_dialogs,
    service_head,
    service_live,
)

host_strip.show()
job_tray.show()
with notices.showing_errors("service"):
    if service_head.show() == service_head.CACHE:
        cache_view.show()
    else:
        service_live.show()
    service_dialogs.show()
