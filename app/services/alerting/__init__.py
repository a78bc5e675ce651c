"""Alerts: rules over figures, what they raise, and whom that is told."""
