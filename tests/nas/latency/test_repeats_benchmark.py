"""The benchmark of repeated measurements: which networks it takes, and what it says of them."""

from __future__ import annotations

import numpy as np

from benchmarks.latency_repeats import NETWORKS, Repeat, report, spread
from nas.latency.measured import Measurement, Setting
from nas.latency.protocol import Latency, Protocol
from search_spaces import load_space
from search_spaces.declared import DeclaredSpace


def measurement(milliseconds: float) -> Measurement:
    latency = Latency(milliseconds, milliseconds / 50, 15, 150, 1.5, 2.0)
    return Measurement(latency, Setting(), Protocol(), (1,), "chip", {"onnxruntime": "1"}, 0.1, "thread")


def test_networks_go_from_the_smallest_to_the_largest() -> None:
    space = load_space("digits-tiny")
    assert isinstance(space, DeclaredSpace)
    found = spread(space)
    macs = space.costs(space.genes(found), ["macs"])["macs"]
    assert len({a.key for a in found}) == NETWORKS
    assert (np.diff(macs) > 0).all()


def test_agreement_is_that_of_the_two_measurements() -> None:
    pairs = [(1.0, 1.1), (2.0, 2.0), (3.0, 2.7)]
    rows = [Repeat(1e6 * a, (measurement(a), measurement(b)), (a, 4 - a)) for a, b in pairs]
    *_, protocol, loop = report("digits-tiny", "onnxruntime", rows)
    assert protocol == "protocol: Kendall's tau 1.000; apart 10.0% (median), 10.0% (most)"
    assert loop.startswith("loop: Kendall's tau -1.000")
