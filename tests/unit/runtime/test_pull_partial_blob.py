"""The files of a layer under way: Ollama's own, gone on with where they fit together, begun anew where not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from app.core.errors import Cancelled, DiskFull, StoreError
from app.runtime.registry.pace import Pace
from app.runtime.registry.partial_blob import Place, open_partial

CONTENT = bytes(range(250)) * 4
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
PACE = Pace(parts=4, smallest_part=10, largest_part=10_000)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, tmp_path / "blobs" / DIGEST.replace(":", "-"), DIGEST, len(CONTENT))


def names(place: Place) -> list[str]:
    return sorted(path.name.removeprefix(place.target.name) for path in place.target.parent.iterdir())


def half_done(place: Place) -> None:
    """The first part whole, 100 bytes of the second."""
    blob = open_partial(place, PACE)
    blob.write(blob.parts[0], CONTENT[:250])
    blob.write(blob.parts[1], CONTENT[250:350])
    blob.close()


def test_the_files_are_named_and_filled_as_ollamas(place):
    half_done(place)
    assert names(place) == ["-partial", "-partial-0", "-partial-1", "-partial-2", "-partial-3"]
    assert place.partial.stat().st_size == len(CONTENT)
    notes = [place.target.with_name(f"{place.target.name}-partial-{n}").read_text() for n in range(4)]
    assert [json.loads(note) for note in notes] == [
        {"N": 0, "Offset": 0, "Size": 250, "Completed": 250},
        {"N": 1, "Offset": 250, "Size": 250, "Completed": 100},
        {"N": 2, "Offset": 500, "Size": 250, "Completed": 0},
        {"N": 3, "Offset": 750, "Size": 250, "Completed": 0},
    ]
    assert list(json.loads(notes[0])) == ["N", "Offset", "Size", "Completed"]


def test_a_note_keeps_its_length_so_that_a_kill_leaves_no_half_of_one(place):
    half_done(place)
    sizes = {path.stat().st_size for path in place.target.parent.glob("*-partial-*")}
    assert len(sizes) == 1


def test_what_is_there_is_gone_on_with_and_becomes_the_blob(place):
    half_done(place)
    blob = open_partial(place, PACE)
    assert blob.completed == 350
    assert [part.position for part in blob.parts] == [250, 350, 500, 750]
    for part in blob.parts:
        blob.write(part, CONTENT[part.position : part.stop])
    assert all(part.is_complete for part in blob.parts)
    assert blob.digest(lambda: False) == DIGEST
    blob.install()
    blob.close()
    assert names(place) == [""]
    assert place.target.read_bytes() == CONTENT
    assert place.target.stat().st_mode & 0o777 == 0o644


def test_parts_are_as_long_as_ollamas():
    pace = Pace()
    assert pace.part_size(144_811_072) == 100_000_000  # two parts, as recorded
    assert pace.part_size(4_000_000_000) == 250_000_000
    assert pace.part_size(40_000_000_000) == 1_000_000_000


def damage_note(text: bytes):
    return lambda place: place.target.with_name(f"{place.target.name}-partial-1").write_bytes(text)


@pytest.mark.parametrize(
    "damage",
    [
        damage_note(b""),
        damage_note(b"{"),
        damage_note(b"[]"),
        damage_note(b'{"N":1,"Offset":250,"Size":250}'),
        damage_note(b'{"N":1,"Offset":250,"Size":250,"Completed":251}'),
        damage_note(b'{"N":1,"Offset":250,"Size":250,"Completed":-1}'),
        damage_note(b'{"N":1,"Offset":240,"Size":250,"Completed":0}'),
        damage_note(b'{"N":2,"Offset":250,"Size":250,"Completed":0}'),
        damage_note(b'{"N":1,"Offset":250,"Size":true,"Completed":0}'),
        damage_note(b'{"N":1,"Offset":250,"Size":250,"Completed":0.5}'),
        damage_note(b"\xff" * 5000),
        lambda place: place.target.with_name(f"{place.target.name}-partial-3").unlink(),
        lambda place: place.target.with_name(f"{place.target.name}-partial-4").write_text(
            '{"N":4,"Offset":1000,"Size":10,"Completed":0}'
        ),
        lambda place: place.partial.unlink(),
        lambda place: place.partial.write_bytes(b"short"),
    ],
)
def test_files_that_do_not_fit_together_are_begun_anew(place, damage):
    half_done(place)
    damage(place)
    blob = open_partial(place, PACE)
    blob.close()
    assert (blob.completed, len(blob.parts)) == (0, 4)
    assert place.partial.read_bytes() == bytes(len(CONTENT))
    assert names(place) == ["-partial", "-partial-0", "-partial-1", "-partial-2", "-partial-3"]


def test_another_size_than_last_time_begins_anew(place):
    half_done(place)
    longer = place._replace(size=2000)
    blob = open_partial(longer, PACE)
    blob.close()
    assert (blob.completed, longer.partial.stat().st_size) == (0, 2000)


def test_what_an_interrupted_start_left_is_cleared(place):
    place.target.parent.mkdir()
    place.target.with_name(f".{place.target.name}-partial-0.abcdef.tmp").write_bytes(b"{")
    open_partial(place, PACE).close()
    assert names(place) == ["-partial", "-partial-0", "-partial-1", "-partial-2", "-partial-3"]


def test_discarding_leaves_nothing(place):
    blob = open_partial(place, PACE)
    blob.discard()
    blob.close()
    assert names(place) == []


def test_one_at_a_time_writes_a_layer(place):
    blob = open_partial(place, PACE)
    with pytest.raises(StoreError, match="another process is pulling"):
        open_partial(place, PACE)
    blob.close()
    open_partial(place, PACE).close()


def test_a_layer_that_will_not_fit_is_refused_before_a_byte_is_asked_for(place):
    with pytest.raises(DiskFull, match="needs 1000 bytes, 999 are free"):
        open_partial(place, PACE, lambda folder: 999)
    half_done(place)
    open_partial(place, PACE, lambda folder: 650).close()  # what is there already needs no room


def test_the_disk_filling_up_is_one_clear_error(place, monkeypatch):
    """The real thing is tested where a small file system can be mounted (contract tests)."""
    import errno
    import os

    blob = open_partial(place, PACE)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(DiskFull, match="no space left for the model store"):
        blob.write(blob.parts[0], b"x")
    blob.close()


def test_hashing_stops_when_it_is_told_to(place):
    blob = open_partial(place, PACE)
    with pytest.raises(Cancelled):
        blob.digest(lambda: True)
    blob.close()


@pytest.mark.parametrize("planted", ["-partial", "-partial-0"])
def test_a_planted_link_is_not_written_through(place, tmp_path, planted):
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    place.target.parent.mkdir()
    place.target.with_name(place.target.name + planted).symlink_to(precious)
    try:
        blob = open_partial(place, PACE)
    except StoreError:
        pass
    else:
        blob.write(blob.parts[0], b"overwritten")
        blob.close()
    assert precious.read_bytes() == b"precious"
