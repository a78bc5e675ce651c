"""Comparing quantizations of one model: what is measured, how sure it is, and what follows from it."""
