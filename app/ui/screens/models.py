"""Models: what is here, in which quantizations, and what is in memory."""

from __future__ import annotations

from app.ui.components import host_strip, model_list

host_strip.show()
model_list.show()
