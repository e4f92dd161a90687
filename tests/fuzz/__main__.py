"""`python -m tests.fuzz`: generated requests to a real server; exit code 1 where an answer broke a promise."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz.campaign import ALL_PHASES, run


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--examples", type=int, default=200, help="random cases of an operation, at most")
    parser.add_argument("--phases", default=",".join(ALL_PHASES), help="some of them, with commas between")
    parser.add_argument("--seconds", type=int, help="repeat random cases for so long, and end then")
    parser.add_argument("--fewest", type=int, default=5000, help="cases; where fewer were sent, the run failed")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31), help="repeats a run")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="nas-fuzz-"))
    phases = options.phases.split(",")
    found = run(
        folder,
        examples=options.examples,
        seed=options.seed,
        phases=phases,
        seconds=options.seconds,
        fewest=options.fewest,
    )
    print(found if found.sound else f"{found.output}\n{found}")
    print(f"logs and reports: {folder}")
    return 0 if found.sound else 1


if __name__ == "__main__":
    sys.exit(main())
