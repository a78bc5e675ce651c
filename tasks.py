"""Every verb of the repository: `python3 tasks.py help` lists them, `make VERB` calls them. Standard library only.

This file must be readable by any Python: it finds one that is new enough and starts again with it. The verbs
themselves live in tooling/.
"""

import os
import sys

OLDEST = (3, 11)
NEWEST = (3, 14)  # the newest that the locks have wheels for
ROOT = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib is not in every Python


def usable(program):
    """Whether `program` starts and is a Python within our range; a version manager's shim may exist and still fail."""
    import subprocess

    check = "import sys; sys.exit(not %r <= sys.version_info[:2] <= %r)" % (OLDEST, NEWEST)
    try:
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            return subprocess.call([program, "-c", check], stdout=nowhere, stderr=nowhere) == 0
    except OSError:
        return False


def other_python():
    """The newest usable Python on PATH, or None."""
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        program = "python3.%d" % minor
        if usable(program):
            return program
    return None


def main():
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        os.chdir(ROOT)
        sys.path.insert(0, ROOT)
        from tooling.verbs import run_verb

        return run_verb(sys.argv[1:])
    program = other_python()
    if program is not None:
        os.execvp(program, [program, os.path.join(ROOT, "tasks.py")] + sys.argv[1:])  # noqa: PTH118, RUF005, S606
    sys.stderr.write(
        "Loupe needs Python %d.%d to %d.%d, this is %d.%d, and no other is on PATH: install one "
        "(Debian: apt-get install python3 python3-venv; macOS: brew install python)\n"
        % (OLDEST + NEWEST + tuple(sys.version_info[:2]))
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
