"""A network's latency on this host, by the whole protocol: one measurement at a time, beside the reference."""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from nas.latency import hosts, kept
from nas.latency.protocol import Clocks, Latency, Protocol, measure, standard_of
from nas.latency.runtimes import Load, RuntimeName, prepared, threaded, versions
from search_spaces import SpecError
from search_spaces.architecture import Architecture
from search_spaces.declared import DeclaredSpace
from search_spaces.load import load_space

REFERENCE: dict[str, Any] = {
    "name": "latency-reference",
    "family": "staged",
    "input": [3, 32, 32],
    "classes": 10,
    "architecture": {
        "stem": {"width": 16},
        "stages": [
            {"block": "inverted_residual", "depth": 2, "width": 24, "kernel": 3, "expansion": 4, "stride": 2},
            {"block": "basic", "depth": 1, "width": 32, "kernel": 3, "stride": 2},
        ],
    },
}
"""The network that runs in between: 32-bit, batch 1. Another one would be another unit of time."""

ALONE = Clocks(runs=time.thread_time)
"""One thread calculates in the time in which it has a core: what other processes take of it does not count."""


@dataclass(frozen=True)
class Setting:
    """How networks run on this host."""

    runtime: RuntimeName = "onnxruntime"
    threads: int = 1
    batch: int = 1
    """Examples in one run; latency is that of the run."""
    reference_ms: float | None = None
    """Milliseconds that the reference network counts for; None: what it took here when that was first measured."""


@dataclass(frozen=True)
class Measurement:
    """A latency, and all that belongs to the number."""

    latency: Latency
    setting: Setting
    protocol: Protocol
    cores: tuple[int, ...]
    """That the threads were kept on; none where the system cannot."""
    device: str
    versions: dict[str, str]
    standard: float
    """Milliseconds that the reference network counts for."""
    clock: str
    """Which times the runs: the thread's own, or the one on the wall."""

    def dump(self) -> dict[str, Any]:
        """As JSON values."""
        found = asdict(self)
        latency, standard = found.pop("latency"), found.pop("standard")
        named = {"latency_ms": latency.pop("milliseconds"), "latency_interval_ms": latency.pop("interval")}
        return {**named, **latency, **found.pop("setting"), **found, "reference_ms": standard}


def measured(
    space: DeclaredSpace,
    arch: Architecture,
    setting: Setting,
    protocol: Protocol,
    locks: Path = hosts.PLACE,
    numbers: Path | None = None,
) -> Measurement:
    """Build the network with random weights, wait for this host's turn, and measure.

    Args:
        space: of the network.
        arch: the network.
        setting: what runs it, and how.
        protocol: when the measurement is done.
        locks: the folder of the host's lock.
        numbers: the folder of what the reference network takes; this user's own where it is None.

    Raises:
        BuildError: where there is no such network.
        TooSlow: where its runs do not fit into the time of a measurement.
        SpecError: where there are not enough cores for the threads, or the folder cannot be used.
    """
    runtime, threads = setting.runtime, setting.threads
    if faults := hosts.too_many(threads):
        raise SpecError(faults)
    device, libraries = hosts.device(), versions(runtime)
    clock, clocks = ("thread", ALONE) if threads == 1 else ("wall", Clocks())
    load, known = prepared(runtime, space, arch, setting.batch), reference(runtime)
    of = {"runtime": runtime, "threads": threads, "versions": libraries, "device": device, "network": known.digest}
    with hosts.turn(place=locks), hosts.pinned(threads) as cores, threaded(runtime, threads):
        run, beside = load(threads), known.load(threads)
        standard = setting.reference_ms or kept.kept(
            of, lambda: standard_of(beside, Protocol(), clocks), numbers or kept.place()
        )
        latency = measure(run, beside, standard, protocol, clocks)
    return Measurement(latency, setting, protocol, cores, device, libraries, standard, clock)


@dataclass(frozen=True)
class Reference:
    """The reference network, to be loaded, and what tells it from any other."""

    load: Load
    digest: str
    """SHA-256 of its ONNX file: drawn by a fixed seed, so it changes only with what is calculated."""


@cache
def reference(runtime: RuntimeName) -> Reference:
    """The reference network; built once in a process."""
    from nas.deploy.onnx_file import untrained_file

    space = load_space(REFERENCE)
    assert isinstance(space, DeclaredSpace)
    arch = space.architecture({})
    digest = hashlib.sha256(untrained_file(space, arch)).hexdigest()
    return Reference(prepared(runtime, space, arch, 1), digest)
