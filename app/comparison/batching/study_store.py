"""Studies on disk: a folder for each with `study.json`, written whole or not at all. Everything here blocks."""

from __future__ import annotations

from pathlib import Path

import structlog

from app.comparison.batching.study import Study
from app.comparison.folder_store import FolderStore
from app.comparison.result_json import Unreadable, from_json, to_json
from app.core.errors import LoupeError
from app.services.small_file import read_small

log = structlog.get_logger(__name__)


class StudyNotFound(LoupeError):
    status = 404
    code = "study_not_found"

    def __init__(self, study_id: str) -> None:
        super().__init__(f"there is no batching study {study_id[:32]}, or it was deleted")


class StudyStore:
    """`folder` is made when something is written. Raises `StoreError`, or `DiskFull`, where that is not possible."""

    def __init__(self, folder: Path) -> None:
        self._kept = FolderStore(folder, "the batching study", StudyNotFound)

    def studies(self) -> list[Study]:
        """All that can be read."""
        found = []
        for file in sorted(self._kept.root.glob("*/study.json")):
            try:
                found.append(from_json(Study, read_small(file)))
            except Unreadable:
                log.warning("a batching study cannot be read", file=str(file))
        return found

    def write(self, study: Study) -> None:
        self._kept.write(study.id, "study.json", to_json(study))

    def delete(self, study_id: str) -> None:
        self._kept.delete(study_id)
