"""The machine itself: processor, memory, disk, limits that the system sets, clock, SQLite.

Where each figure comes from is a parameter, so that tests can play other machines. All of it blocks for a moment.
"""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from app.core.checks import Check, Verdict
from app.core.ports import SystemClock
from app.services.checking.bandwidth import usable_cores

GIB = 1 << 30
SQLITE_SOUND = (3, 51, 3)  # the fix of a rare corruption of WAL databases with several writers
FILES = 1024  # open files: 256 connections, their hosts, stores and models
TRIAL = 32 << 20  # bytes that are written and read back to learn how fast the disk is
OK, WARN, FAIL, UNKNOWN = Verdict.OK, Verdict.WARN, Verdict.FAIL, Verdict.UNKNOWN


def processor(cpuinfo: Path = Path("/proc/cpuinfo"), machine: str | None = None) -> Check:
    """Decoding on a processor wants vector instructions: without AVX2 it is several times slower."""
    kind = machine or platform.machine()
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return Check("processor", UNKNOWN, f"{kind}; this system does not list its instructions")
    flags = {word for line in text.splitlines() if line.startswith(("flags", "Features")) for word in line.split()}
    name = next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")), kind)
    if kind.lower() in ("aarch64", "arm64"):
        known = [word for word in ("asimd", "asimddp", "i8mm", "sve") if word in flags]
        return Check("processor", OK if "asimd" in flags else WARN, f"{name}: {', '.join(known) or 'no NEON'}", "NEON")
    has = [
        label
        for word, label in (
            ("avx2", "AVX2"),
            ("fma", "FMA"),
            ("f16c", "F16C"),
            ("avx512f", "AVX-512"),
            ("avx_vnni", "AVX-VNNI"),
            ("amx_int8", "AMX"),
        )
        if word in flags
    ]
    if "avx2" in flags:
        return Check("processor", OK, f"{name}: {', '.join(has)}", "AVX2")
    return Check(
        "processor",
        WARN,
        f"{name}: {', '.join(has) or 'no AVX'}",
        "AVX2",
        "Models run several times slower without AVX2; in a virtual machine pass the host's processor through.",
    )


def cores(allowed: float | None = None) -> Check:
    """Threads beyond the cores that may really be used only wait for each other. `allowed`: by a control group."""
    usable, physical, logical = usable_cores(), psutil.cpu_count(logical=False), psutil.cpu_count() or 1
    found = f"{usable} threads may be used of {logical}" + (f" on {physical} cores" if physical else "")
    if allowed is not None and allowed < usable:
        return Check(
            "cores",
            WARN,
            f"{found}; the container may use {allowed:g}",
            f"{usable}",
            f"More threads than {allowed:g} make answers slower: give the container more CPU, or fewer threads "
            "(num_thread).",
        )
    return Check(
        "cores",
        OK if usable > 1 else WARN,
        found,
        "2 or more",
        ""
        if usable > 1
        else "One core has to write answers and show the page, so both stutter: give the machine or "
        "container a second one.",
    )


def memory(total: int, free: int, smallest: int | None, loaded: bool = False) -> Check:
    """`smallest`: bytes that the smallest installed model takes; None where none is known. `loaded`: one is in memory
    already."""
    found = f"{total / GIB:.1f} GiB, {free / GIB:.1f} GiB of it free"
    if smallest is not None and free < smallest:
        return Check(
            "memory",
            WARN if loaded else FAIL,
            found,
            f"{smallest / GIB:.1f} GiB for the smallest model here",
            "No second model fits beside what is loaded, so that changing models costs a load each time: close other "
            "programs, or take smaller quantizations."
            if loaded
            else "No model fits: close other programs, or take a smaller model or quantization.",
        )
    if total < 4 * GIB:
        return Check(
            "memory",
            WARN,
            found,
            "8 GiB for a 7B model at 4 bits",
            "Only small models fit: up to about 3 billion parameters at Q4_K_M. More memory, or a larger limit of the "
            "container, mends it.",
        )
    return Check("memory", OK, found, "8 GiB for a 7B model at 4 bits")


def swap() -> Check:
    told = psutil.swap_memory()
    if told.total and told.used > told.total / 2:
        return Check(
            "swap",
            WARN,
            f"{told.used / GIB:.1f} of {told.total / GIB:.1f} GiB used",
            "little in use",
            "What is swapped out answers at the speed of the disk: unload models or close programs.",
        )
    return Check("swap", OK, f"{told.used / GIB:.1f} of {told.total / GIB:.1f} GiB used" if told.total else "none")


def disk(folder: Path, measure: bool = True) -> Iterator[Check]:
    """Room for models and backups, and how fast the folder's disk is."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        yield Check(
            "disk",
            FAIL,
            f"{folder} cannot be looked at: {error.strerror}",
            "a folder that can be written",
            "Nothing can be kept: set LOUPE_DATA to a folder of your own.",
        )
        return
    found = f"{free / GIB:.1f} GiB free in {folder}"
    if free < GIB:
        yield Check(
            "disk",
            FAIL,
            found,
            "10 GiB",
            "Conversations and backups may soon not be written: delete models that nobody uses (Models says what each "
            "frees), or set LOUPE_DATA to a folder on a larger disk.",
        )
    elif free < 10 * GIB:
        yield Check(
            "disk",
            WARN,
            found,
            "10 GiB",
            "A 7B model at 4 bits takes 4 to 5 GiB, so few fit: delete models that nobody uses (Models says what each "
            "frees), or set LOUPE_DATA to a folder on a larger disk.",
        )
    else:
        yield Check("disk", OK, found, "10 GiB")
    if measure and free > 8 * TRIAL:
        yield _disk_speed(folder)


def files(limit: int | None = None) -> Check:
    """How many files and connections this process may have open."""
    if limit is None:
        try:
            import resource

            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        except (ImportError, OSError):
            return Check("open files", UNKNOWN, "this system does not tell its limit", f"{FILES}")
    if 0 <= limit < FILES:
        return Check(
            "open files",
            WARN,
            f"{limit} at most",
            f"{FILES}",
            f"Under load connections are refused: start Loupe after `ulimit -n {FILES}`.",
        )
    return Check("open files", OK, "no limit" if limit < 0 else f"{limit} at most", f"{FILES}")


def clock(now: Callable[[], float] = SystemClock.now, built: float | None = None) -> Check:
    """A clock that is far behind makes new files look old and certificates not yet valid."""
    built = Path(__file__).stat().st_mtime if built is None else built
    told = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now()))
    if now() < built - 86_400:
        return Check(
            "clock",
            WARN,
            told,
            "the date of today",
            "The clock is behind this program's own files: set it, or dates and limits by day are wrong.",
        )
    return Check("clock", OK, told)


def system(version: str = platform.python_version()) -> Check:
    """What all of this runs on: the first question of whoever is asked for help."""
    return Check("system", OK, f"{platform.system()} {platform.release()}, {platform.machine()}, Python {version}")


def sqlite(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> Check:
    found, sound = ".".join(map(str, version)), ".".join(map(str, SQLITE_SOUND))
    if version < SQLITE_SOUND:
        return Check(
            "SQLite",
            WARN,
            found,
            sound,
            "Older ones can, rarely, damage a database under several writers. Loupe writes with one; Python "
            "brings SQLite, so a newer Python mends it.",
        )
    return Check("SQLite", OK, found, sound)


def _disk_speed(folder: Path) -> Check:
    """Writing with fsync: what a download and a conversation wait for. Reading back would be answered out of memory."""
    trial = folder / f".check-{os.getpid()}"
    try:
        began = time.perf_counter()
        with trial.open("wb") as file:
            file.write(os.urandom(1 << 20) * (TRIAL >> 20))
            file.flush()
            os.fsync(file.fileno())
        rate = TRIAL / (time.perf_counter() - began) / (1 << 20)
    except OSError as error:
        return Check(
            "disk speed",
            FAIL,
            f"{folder} cannot be written: {error.strerror}",
            "a folder that can be written",
            "Nothing can be kept: give Loupe a folder of its own (LOUPE_DATA).",
        )
    finally:
        trial.unlink(missing_ok=True)
    slow = rate < 50
    return Check(
        "disk speed",
        WARN if slow else OK,
        f"{rate:.0f} MiB/s written",
        "50 MiB/s",
        "Models load slowly from it: a model of 4 GiB takes minutes. Set LOUPE_DATA to a folder on a local disk, best "
        "an SSD."
        if slow
        else "",
    )
