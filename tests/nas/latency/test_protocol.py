"""The measuring loop on simulated machines, which slow down, stutter and interrupt."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.latency.protocol import (
    LEAST,
    Clocks,
    Latency,
    Protocol,
    Run,
    TooSlow,
    measure,
    standard_of,
    trimmed_mean,
)

PROTOCOL = Protocol()
SLOT = 0.0005
"""Seconds for which a machine has one speed."""
STANDARD = 0.2
"""Milliseconds that the reference takes."""


class Machine:
    """Passes time: whatever runs takes longer while the machine is slow, and when others interrupt it."""

    def __init__(
        self, seed: int, noise: float = 0.0, busy: float = 0.0, slow: Callable[[float], float] = lambda t: 1.0
    ) -> None:
        self.now, self.runs = 0.0, 0
        self._rng, self._noise, self._slow = np.random.default_rng(seed), noise, slow
        self._busy = np.zeros(200_000, dtype=bool)
        for start in np.flatnonzero(self._rng.random(len(self._busy)) < busy * SLOT / 0.003):
            self._busy[start : start + 1 + int(self._rng.exponential(6))] = True  # interrupted for about 3 ms

    def network(self, seconds: float) -> Run:
        """One that takes so long on the idle machine."""

        def run() -> None:
            self.runs += 1
            work = seconds * math.exp(self._noise * self._rng.normal())
            while work > 1e-15:
                slot = int(self.now / SLOT + 1e-9)
                left = (slot + 1) * SLOT - self.now
                if self._busy[slot % len(self._busy)]:
                    self.now += left
                    continue
                slow = self._slow(self.now)
                step = min(left, work * slow)
                self.now += step
                work -= step / slow

        return run

    def measure(self, milliseconds: float, protocol: Protocol = PROTOCOL) -> Latency:
        clocks = Clocks(self.clock, self.clock)
        return measure(
            self.network(milliseconds / 1000), self.network(STANDARD / 1000), STANDARD, protocol, clocks
        )

    def clock(self) -> float:
        return self.now


DRIFTS: dict[str, Callable[[float], float]] = {
    "none": lambda t: 1.0,
    "heats up": lambda t: 1 + t,
    "waves": lambda t: 1.5 + math.sin(20 * t),
    "a step": lambda t: 1.0 if t < 0.02 else 2.5,
    "back and forth": lambda t: 1.0 + 2 * (int(t * 40) % 2),
}
seeds = st.integers(0, 10_000)
latencies = st.floats(0.03, 3.0)


@pytest.mark.parametrize("drift", DRIFTS)
@settings(max_examples=12, deadline=None)
@given(seed=seeds, milliseconds=latencies)
def test_what_slows_both_down_cancels_out(drift: str, seed: int, milliseconds: float) -> None:
    found = Machine(seed, noise=0.01, slow=DRIFTS[drift]).measure(milliseconds)
    assert found.milliseconds == pytest.approx(milliseconds, rel=0.03)
    assert found.interval <= 0.05 * found.milliseconds


@settings(max_examples=15, deadline=None)
@given(seed=seeds, milliseconds=st.floats(0.05, 0.4), busy=st.floats(0.0, 0.2))
def test_interruptions_are_left_out(seed: int, milliseconds: float, busy: float) -> None:
    found = Machine(seed, noise=0.02, busy=busy).measure(milliseconds)
    assert found.milliseconds == pytest.approx(milliseconds, rel=0.06)


def test_by_the_clock_alone_a_drifting_machine_would_be_wrong() -> None:
    machine = Machine(0, slow=DRIFTS["heats up"])
    machine.now = 2.0
    raw = standard_of(machine.network(0.001), Protocol(), Clocks(machine.clock, machine.clock))
    assert raw > 2.9
    machine.now = 2.0
    assert machine.measure(1.0).milliseconds == pytest.approx(1.0, rel=0.02)
    assert machine.measure(1.0).pace > 2.9


@settings(max_examples=40, deadline=None)
@given(
    seed=seeds,
    milliseconds=st.floats(0.001, 200),
    noise=st.floats(0, 0.3),
    seconds=st.floats(0.01, 2.0),
    samples=st.integers(LEAST, 60),
)
def test_it_ends_within_its_time_after_the_first_run(
    seed: int, milliseconds: float, noise: float, seconds: float, samples: int
) -> None:
    machine = Machine(seed, noise=noise)
    protocol = Protocol(seconds=seconds, samples=samples, enough=min(20, samples))
    first = 2 * (milliseconds + STANDARD) / 1000 * math.exp(4 * noise)
    try:
        found = machine.measure(milliseconds, protocol)
    except TooSlow:
        assert machine.now <= first + seconds
        assert milliseconds / 1000 * 2 * LEAST * math.exp(8 * noise) > 0.7 * seconds
        return
    assert LEAST <= found.samples <= samples
    assert found.runs >= found.samples
    assert found.milliseconds > 0
    assert math.isfinite(found.interval)
    assert machine.now <= first + seconds * math.exp(6 * noise)


def test_a_network_too_slow_for_its_time_is_told_at_once_with_what_a_run_takes() -> None:
    machine = Machine(0)
    with pytest.raises(TooSlow, match=r"^one run takes 2 s; 3 samples, .* do not fit into 10 s$"):
        machine.measure(2000.0)
    assert machine.now < 10
    machine = Machine(0)
    found = machine.measure(1000.0)
    assert found.milliseconds == pytest.approx(1000, rel=0.01)
    assert found.samples >= LEAST
    assert machine.now < 10 + 2


def test_what_finds_the_caches_cold_after_the_other_does_not_count() -> None:
    """Each network pushes the other out, so that its first run thereafter takes three times as long."""
    machine, last = Machine(0, noise=0.005), ""

    def cold(name: str, seconds: float) -> Run:
        warm = machine.network(seconds)

        def run() -> None:
            nonlocal last
            for _ in range(1 if last == name else 3):
                warm()
            last = name

        return run

    network, reference = cold("network", 0.002), cold("reference", STANDARD / 1000)
    found = measure(network, reference, STANDARD, PROTOCOL, Clocks(machine.clock, machine.clock))
    assert found.milliseconds == pytest.approx(2.0, rel=0.02)


@settings(max_examples=15, deadline=None)
@given(seed=seeds, milliseconds=latencies)
def test_a_quiet_machine_needs_the_least_there_is(seed: int, milliseconds: float) -> None:
    protocol = Protocol()
    assert Machine(seed, noise=0.005).measure(milliseconds, protocol).samples == protocol.enough


def test_a_finer_interval_takes_more_samples() -> None:
    coarse, fine = (Machine(1, noise=0.3).measure(0.4, replace(Protocol(), precision=p)) for p in (0.1, 0.02))
    assert fine.samples > 2 * coarse.samples
    assert fine.interval < 0.5 * coarse.interval


def test_warm_up_waits_for_what_gets_faster() -> None:
    machine = Machine(0, noise=0.005)
    plain, calls = machine.network(0.001), 0

    def cold() -> None:
        nonlocal calls
        calls += 1
        for _ in range(5 if calls <= 7 else 1):
            plain()

    found = measure(
        cold, machine.network(STANDARD / 1000), STANDARD, Protocol(), Clocks(machine.clock, machine.clock)
    )
    assert calls - found.runs > 10
    assert found.milliseconds == pytest.approx(1.0, rel=0.02)


def test_a_clock_that_stands_still_gives_a_latency_all_the_same() -> None:
    ticks = iter(range(100_000))
    found = measure(lambda: None, lambda: None, 1.0, Protocol(), Clocks(lambda: 0.0, lambda: next(ticks) / 1000))
    assert found.milliseconds == pytest.approx(1.0)


def test_a_trimmed_mean_by_hand() -> None:
    mean, half = trimmed_mean([1.0, 9.0, 3.0, 2.0, -50.0], 0.2)
    assert mean == pytest.approx(2.0)
    # winsorized: 1, 1, 2, 3, 3 -> standard deviation 1, of three that are left; t(0.975, 2) = 4.302653
    assert half == pytest.approx(4.302653 * math.sqrt(5) / 3)


@settings(max_examples=5, deadline=None)
@given(seed=seeds)
def test_the_interval_holds_the_truth_about_as_often_as_it_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = [trimmed_mean(row, 0.2) for row in rng.normal(size=(400, 20))]
    assert 0.9 < np.mean([abs(mean) <= half for mean, half in found]) < 0.99
