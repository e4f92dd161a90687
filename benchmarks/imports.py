"""How long it takes to start: fresh interpreters, the median of several, and what they must not load."""

import statistics
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table

STARTS = [
    ("import nas", [sys.executable, "-c", "import nas"], 0.6),
    ("import nas; nas.search", [sys.executable, "-c", "import nas; nas.search"], None),
    ("import search_spaces", [sys.executable, "-c", "import search_spaces"], 0.5),
    ("import api", [sys.executable, "-c", "import api"], 1.0),
    ("nas --help", [sys.executable, "-m", "nas", "--help"], 0.4),
    ("python -c pass", [sys.executable, "-c", "pass"], None),
]


def main(rounds: int = 7) -> None:
    table = Table(title=f"Start-up, seconds, median of {rounds} fresh interpreters", title_justify="left")
    for column in ("what", "median", "target"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for name, command, target in STARTS:
        seconds = statistics.median(_seconds(command) for _ in range(rounds))
        table.add_row(name, f"{seconds:.2f}", "" if target is None else f"{target:.1f}")
    Console().print(table)


def _seconds(command: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
