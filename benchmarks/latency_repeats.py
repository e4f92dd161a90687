"""Whether a latency that is measured on a busy machine is the same when it is measured again.

Ten networks, evenly spread over the multiply-accumulates of 1,000 random ones, are measured one after the other,
and then all again. Meanwhile a process a core multiplies matrices of 300 x 300 for 0.02 to 1 s, sleeps for up to
0.3 s, and so on. Beside the protocol stands what a plain loop gives: the mean time of the runs of a second by the
clock on the wall.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from nas.latency.measured import Measurement, Setting, measured
from nas.latency.protocol import Protocol
from nas.latency.runtimes import RuntimeName, prepared, threaded
from search_spaces.architecture import Architecture
from search_spaces.declared import DeclaredSpace
from search_spaces.load import load_space

NETWORKS, DRAWN = 10, 1000
LOAD = """
import random, time
import numpy as np
a = np.random.default_rng(0).random((300, 300))
while True:
    end = time.monotonic() + random.uniform(0.02, 1.0)
    while time.monotonic() < end:
        a @ a
    time.sleep(random.uniform(0.0, 0.3))
"""


@dataclass(frozen=True)
class Repeat:
    """One network, measured twice: by the protocol, and by a plain loop."""

    macs: float
    by_protocol: tuple[Measurement, Measurement]
    by_loop: tuple[float, float]
    """Milliseconds."""


@contextmanager
def load(processes: int) -> Iterator[None]:
    """So many processes that calculate, now and then, while the body runs."""
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    running = [
        subprocess.Popen([sys.executable, "-c", LOAD], env={**os.environ, **single}) for _ in range(processes)
    ]
    try:
        time.sleep(2.0)
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def spread(space: DeclaredSpace) -> list[Architecture]:
    """Networks from the smallest to the largest of a random population."""
    drawn = space.sample(DRAWN, 0)
    macs = space.costs(space.genes(drawn), ["macs"])["macs"]
    order = np.argsort(macs, kind="stable")
    return [drawn[i] for i in order[np.linspace(0, DRAWN - 1, NETWORKS).astype(int)]]


def repeats(name: str, runtime: RuntimeName) -> list[Repeat]:
    """All networks of a space, measured and measured again."""
    space = load_space(name)
    assert isinstance(space, DeclaredSpace)
    archs, setting, protocol = spread(space), Setting(runtime), Protocol()
    rounds: list[list[tuple[Measurement, float]]] = []
    for _ in range(2):
        rounds.append([])
        for arch in archs:
            rounds[-1].append((measured(space, arch, setting, protocol), looped(space, arch, runtime)))
    macs = space.costs(space.genes(archs), ["macs"])["macs"]
    return [
        Repeat(float(m), (a[0], b[0]), (a[1], b[1])) for m, a, b in zip(macs, rounds[0], rounds[1], strict=True)
    ]


def looped(space: DeclaredSpace, arch: Architecture, runtime: RuntimeName, seconds: float = 1.0) -> float:
    """Milliseconds of a run in the mean of all that fit into so many seconds, by the clock on the wall."""
    with threaded(runtime, 1):
        run = prepared(runtime, space, arch, 1)(1)
        run()
        start, count = time.perf_counter(), 0
        while not count or time.perf_counter() < start + seconds:
            run()
            count += 1
        return 1000 * (time.perf_counter() - start) / count


def report(name: str, runtime: RuntimeName, found: list[Repeat]) -> Iterator[str]:
    """Lines of a table: a network each, and how well its two measurements agree."""
    from scipy.stats import kendalltau

    yield f"\n{name}, {runtime}, {found[0].by_protocol[0].device}, {found[0].by_protocol[0].versions}"
    yield f"{'MACs':>13} {'first, ms':>18} {'again':>18} {'pace':>6} {'loop':>9} {'again':>9}"
    for row in found:
        first, again = (m.latency for m in row.by_protocol)
        cells = [f"{m.milliseconds:.4g} ± {m.interval:.2g}" for m in (first, again)]
        loops = [f"{ms:.4g}" for ms in row.by_loop]
        yield f"{row.macs:13,.0f} {cells[0]:>18} {cells[1]:>18} {first.pace:6.2f} {loops[0]:>9} {loops[1]:>9}"
    pairs = np.array([[m.latency.milliseconds for m in row.by_protocol] for row in found])
    loops_ = np.array([row.by_loop for row in found])
    for what, of in (("protocol", pairs), ("loop", loops_)):
        tau = float(kendalltau(*of.T).statistic)
        apart = np.abs(of[:, 1] / of[:, 0] - 1)
        yield f"{what}: Kendall's tau {tau:.3f}; apart {np.median(apart):.1%} (median), {apart.max():.1%} (most)"


def main(names: list[str]) -> None:
    """Measure under load, and print a table for each space and runtime."""
    processes = os.cpu_count() or 1
    busy, _, _ = os.getloadavg()
    print(f"{processes} processes of load on {processes} cores; load average before {busy:.1f}", flush=True)
    with load(processes):
        for name in names:
            for runtime in ("onnxruntime", "torch"):
                print("\n".join(report(name, runtime, repeats(name, runtime))), flush=True)
