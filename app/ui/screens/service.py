"""Service: what the layer between clients and models is doing right now, what it keeps, and what it can be set to do.

A part is a line of `VIEWS`; which one is shown stands in the address (`?view=`).
"""

from __future__ import annotations

from app.ui import notices
from app.ui.components import (
    cache_view,
    host_strip,
    job_tray,
    load_lab,
    service_batches,
    service_batching,
    service_dialogs,
    service_head,
    service_live,
)

VIEWS = {
    "Live": service_live.show,
    "Cache": cache_view.show,
    "Batch jobs": service_batches.show,
    "Load lab": load_lab.show,
    "Batching lab": service_batching.show,
}

host_strip.show()
job_tray.show()
with notices.showing_errors("service"):
    VIEWS[service_head.show(list(VIEWS))]()
    service_dialogs.show()
