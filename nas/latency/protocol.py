"""How long a network takes on a machine that does other things too: a loop over anything that runs, and a clock.

Blocks of runs of the network alternate with blocks of a reference network, so near to each other that what slows
the machine slows both. A sample is the fastest of a few blocks over the fastest of the reference blocks between
them: drift cancels out, and interruptions, which only ever take time, are left behind on both sides alike. The
estimate is the mean of the samples' logarithms without the least and the greatest of them (Tukey and McLaughlin
1963, "Less vulnerable confidence and significance procedures for location based on a single sample:
trimming/Winsorization"), times what the reference takes by itself, a number that stays the same from one
measurement to the next.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Run = Callable[[], object]
"""Runs a network once, and has its output when it returns."""
Clock = Callable[[], float]
"""Seconds, from anywhere; never goes back."""

CONFIDENCE = 0.95
LEAST = 3
"""Samples without which nothing is known about their spread; they are taken however long they last."""
LONGEST = 2**14
"""Runs of a block, at most: where a run takes no time that the clock could tell."""
MOST = 20.0
"""Half of an interval of logarithms, at most: that of samples that say nothing."""


@dataclass(frozen=True)
class Protocol:
    """When a measurement is warm, and when it is done."""

    precision: float = 0.05
    """Half of the 95 % confidence interval, over the latency, at which a measurement is done."""
    samples: int = 400
    """At most."""
    enough: int = 15
    """Samples from which on the interval is believed."""
    seconds: float = 10.0
    """For one measurement, warm-up included, at most; one that ends by it has a wider interval."""
    block: float = 0.0003
    """Seconds that runs are timed together for; a network that takes longer runs once. So short that most blocks
    pass between two interruptions by other processes, which take milliseconds."""
    group: int = 5
    """Blocks, and as many of the reference, that make one sample."""
    trim: float = 0.2
    """Share of the samples that is left out at each end."""
    window: int = 5
    """Warm-up ends when as many blocks are not faster, in the median, than as many before them."""
    steady: float = 0.03
    """By more than this share."""


@dataclass(frozen=True)
class Latency:
    """One measurement."""

    milliseconds: float
    """Of one run."""
    interval: float
    """Half of the 95 % confidence interval, in milliseconds."""
    samples: int
    runs: int
    """Of the network, in all of its samples."""
    pace: float
    """What the reference took meanwhile, in the median, over its own time: 2 on a machine half as fast."""
    drift: float
    """What the slowest tenth of reference blocks took, at least, over what the fastest tenth took, at most."""


@dataclass(frozen=True)
class Clocks:
    """What times the runs, and what tells when it is late."""

    runs: Clock = time.perf_counter
    late: Clock = time.perf_counter


def measure(run: Run, reference: Run, standard: float, protocol: Protocol, clocks: Clocks = Clocks()) -> Latency:
    """What a run takes, in units in which a run of the reference takes `standard` milliseconds."""
    end = clocks.late() + protocol.seconds
    sample = _Block(run, _warm(run, protocol, clocks, end), protocol, clocks.runs)
    beside = _Block(reference, _warm(reference, protocol, clocks, end), protocol, clocks.runs, sample.seconds)
    ratios: list[float] = []  # logarithms: noise in the network and noise in the reference then weigh alike
    references: list[float] = []
    while True:
        taken, meanwhile = _side_by_side(sample, beside, protocol.group, len(ratios) % 2 == 1)
        references += meanwhile
        ratios.append(math.log(min(taken)) - math.log(min(meanwhile)))
        late = clocks.late() >= end or len(ratios) >= protocol.samples
        if len(ratios) < LEAST or (not late and len(ratios) < protocol.enough):
            continue
        mean, half = trimmed_mean(ratios, protocol.trim)
        if late or math.expm1(half) <= protocol.precision:
            break
    milliseconds = standard * math.exp(mean)
    slow, fast = np.quantile(references, [0.9, 0.1])
    pace = 1000 * statistics.median(references) / standard
    runs = len(references) * sample.times
    return Latency(milliseconds, milliseconds * math.expm1(half), len(ratios), runs, pace, float(slow / fast))


def standard_of(reference: Run, protocol: Protocol, clocks: Clocks = Clocks()) -> float:
    """What a run of the reference takes by itself now, in milliseconds: the median of fastest blocks."""
    end = clocks.late() + protocol.seconds
    block = _Block(reference, _warm(reference, protocol, clocks, end), protocol, clocks.runs)
    taken: list[float] = []
    while len(taken) < LEAST or (clocks.late() < end and len(taken) < 3 * protocol.enough):
        taken.append(min(block.time() for _ in range(protocol.group)))
    return 1000 * statistics.median(taken)


def trimmed_mean(samples: Sequence[float], trim: float) -> tuple[float, float]:
    """The mean without the share `trim` at each end (three are always left), and half of its 95 % interval."""
    from scipy.special import stdtrit

    ordered = np.sort(samples)
    n = len(ordered)
    cut = min(int(trim * n), (n - LEAST) // 2)
    kept = ordered[cut : n - cut]
    winsorized = np.clip(ordered, kept[0], kept[-1])
    error = float(winsorized.std(ddof=1)) * math.sqrt(n) / len(kept)
    quantile = float(stdtrit(len(kept) - 1, (1 + CONFIDENCE) / 2))
    return float(kept.mean()), min(quantile * error, MOST)


def _side_by_side(a: _Block, b: _Block, count: int, turned: bool) -> tuple[list[float], list[float]]:
    """Times of so many blocks of each, in turns; `turned`: the second one first, so that steady drift cancels."""
    first, second = (b, a) if turned else (a, b)
    pairs = [(first.time(), second.time()) for _ in range(count)]
    one, other = [p[0] for p in pairs], [p[1] for p in pairs]
    return (other, one) if turned else (one, other)


class _Block:
    """So many runs, timed together, that they take long enough to be timed."""

    def __init__(
        self, run: Run, once: float, protocol: Protocol, clock: Clock, seconds: float | None = None
    ) -> None:
        """`once`: seconds of a run; `seconds`: of a block, where it is not what the protocol says."""
        self._run, self._clock = run, clock
        self.times = min(max(1, round((seconds or protocol.block) / once)), LONGEST)
        self.seconds = self.times * once

    def time(self) -> float:
        """Seconds of one run, in the mean of a block."""
        return timed(self._run, self.times, self._clock)


def timed(run: Run, times: int, clock: Clock) -> float:
    """Seconds of one of so many runs; above 0, however coarse the clock is."""
    start = clock()
    for _ in range(times):
        run()
    return max(clock() - start, 1e-9) / times


def _warm(run: Run, protocol: Protocol, clocks: Clocks, end: float) -> float:
    """Run until that gets no faster, or a fifth of the time until `end` is over; gives seconds of a run."""
    until = clocks.late() + (end - clocks.late()) / 5
    times, taken = 1, [timed(run, 1, clocks.runs)]
    while clocks.late() < until and not _steady(taken, protocol):
        if times < LONGEST and taken[-1] * times < protocol.block / 2:
            times *= 2  # blocks of the length that will be timed
            taken = []
        taken.append(timed(run, times, clocks.runs))
    return statistics.median(taken[-protocol.window :])


def _steady(taken: Sequence[float], protocol: Protocol) -> bool:
    n = protocol.window
    if len(taken) < 2 * n:
        return False
    before, now = statistics.median(taken[-2 * n : -n]), statistics.median(taken[-n:])
    return now >= (1 - protocol.steady) * before
