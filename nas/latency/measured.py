"""A network's latency on this host, by the whole protocol: one measurement at a time, beside the reference."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from nas.latency import hosts
from nas.latency.protocol import Clocks, Latency, Protocol, measure, standard_of
from nas.latency.runtimes import Load, RuntimeName, prepared, threaded, versions
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
    """Milliseconds that the reference network counts for on this host."""
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
    place: Path = hosts.PLACE,
) -> Measurement:
    """Build the network with random weights, wait for this host's turn, and measure.

    Args:
        space: of the network.
        arch: the network.
        setting: what runs it, and how.
        protocol: when the measurement is done.
        place: of the host's lock, and of what its reference network takes.

    Raises:
        BuildError: where there is no such network.
    """
    runtime, threads = setting.runtime, setting.threads
    device, libraries = hosts.device(), versions(runtime)
    about = [runtime, threads, libraries, device, REFERENCE, protocol.block, protocol.group]
    clock, clocks = ("thread", ALONE) if threads == 1 else ("wall", Clocks())
    load, load_reference = prepared(runtime, space, arch, setting.batch), reference(runtime)
    with hosts.turn(place=place), hosts.pinned(threads) as cores, threaded(runtime, threads):
        run, beside = load(threads), load_reference(threads)
        standard = hosts.kept(about, lambda: standard_of(beside, protocol, clocks), place)
        latency = measure(run, beside, standard, protocol, clocks)
    return Measurement(latency, setting, protocol, cores, device, libraries, standard, clock)


@cache
def reference(runtime: RuntimeName) -> Load:
    """The reference network; built once in a process."""
    space = load_space(REFERENCE)
    assert isinstance(space, DeclaredSpace)
    return prepared(runtime, space, space.architecture({}), 1)
