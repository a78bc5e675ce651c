"""What `tasks.py` does: environment, system packages, verbs, locks, image. Standard library only."""
