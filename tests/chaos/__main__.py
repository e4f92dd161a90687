"""`python -m tests.chaos`: both databases, 100 faults each; a report, and exit code 1 where a promise broke."""

from __future__ import annotations

import argparse
import json
import sys

from tests.chaos.databases import Kind
from tests.chaos.report import Report
from tests.chaos.storm import run


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--faults", type=int, default=100, help="a database")
    parser.add_argument("--minutes", type=float, default=15, help="that the faults of a database may take")
    parser.add_argument("--at-once", type=int, default=6, help="jobs that are kept going")
    parser.add_argument("--quarters", type=int, default=4, help="the size of the jobs, 4 being the whole")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args()
    kinds: list[Kind] = ["sqlite", "postgresql"] if options.database == "both" else [options.database]
    reports: list[Report] = []
    for kind in kinds:
        report = run(
            kind,
            faults=options.faults,
            minutes=options.minutes,
            seed=options.seed,
            at_once=options.at_once,
            quarters=options.quarters,
            say=lambda text: print(text, file=sys.stderr, flush=True),
        )
        reports.append(report)
        if not options.json:
            print(report, flush=True)
    if options.json:
        print(json.dumps([r.as_dict() for r in reports], indent=1))
    return 0 if all(r.kept for r in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
