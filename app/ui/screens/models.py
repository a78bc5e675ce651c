"""Models: what is here, in which quantizations, what is in memory, and the ways to more of it or less."""

from __future__ import annotations

from app.ui import access, bridge, notices
from app.ui.components import delete_dialog, get_model, host_strip, job_tray, make_dialog, model_list

host_strip.show()
job_tray.show()
with notices.showing_errors("get"):
    get_model.show()
model_list.show()
with notices.showing_errors("dialogs"):
    view = bridge.call(access.services().catalog.snapshot(stale_ok=True))
    make_dialog.show(view)
    delete_dialog.show(view)
