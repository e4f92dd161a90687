"""How long a network takes on a machine that does other things too: a loop over anything that runs, and a clock.

A network under contention is best seen in its undisturbed runs, and a slower machine in what it does to a network
that is known. So bursts of short blocks of runs take turns with bursts of a reference network, near to each other.
Within a burst the first runs fetch back into the caches what others have pushed out, and the fastest block is one
that nobody interrupted. A sample is the fastest of some blocks over the fastest of the reference's blocks between
them: what slows both cancels out, and interruptions, which only ever take time, are left behind on both sides
alike. (Single long runs in turns would fall into step with the scheduler: where a slice of time is as long as a
pair, it is always the same one of both that finds the caches cold.)

The estimate is the mean of the samples' logarithms without the least and the greatest (Tukey and McLaughlin 1963,
"Less vulnerable confidence and significance procedures for location based on a single sample:
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
"""Samples without which nothing is known about their spread."""
LONGEST = 2**14
"""Runs of a block, at most: where a run takes no time that the clock could tell."""
STANDARD = 100
"""Bursts by which the reference's own time is found."""
MOST = 20.0
"""Half of an interval of logarithms, at most: that of samples that say nothing."""


@dataclass(frozen=True)
class Protocol:
    """When a measurement is warm, and when it is done."""

    precision: float = 0.03
    """Half of the 95 % confidence interval, over the latency, at which a measurement is done."""
    samples: int = 400
    """At most."""
    enough: int = 15
    """Samples from which on the interval is believed."""
    seconds: float = 10.0
    """For one measurement after the first run, warm-up included; one that ends by it has a wider interval."""
    block: float = 0.0003
    """Seconds that runs are timed together for; a network that takes longer runs once. So short that most blocks
    pass between two interruptions by other processes, which take milliseconds."""
    burst: int = 5
    """Runs in a row, at least: the first fetch back into the caches what the other network has pushed out."""
    group: int = 20
    """Blocks, and as many of the reference, that make one sample; fewer where runs take so long that there would
    not be enough samples."""
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


class TooSlow(Exception):
    """A measurement does not fit into its time; says how long a run takes."""


def measure(run: Run, reference: Run, standard: float, protocol: Protocol, clocks: Clocks = Clocks()) -> Latency:
    """What a run takes, in units in which a run of the reference takes `standard` milliseconds.

    It ends within the protocol's seconds after the first run as long as the machine gets no slower than it was in
    the warm-up: a sample is begun where one as long as the last fits, and the first three in any case.

    Raises:
        TooSlow: where by the warm-up three samples do not fit into the time.
    """
    for first in (run, reference):  # what is loaded late is loaded now
        first()
    end = clocks.late() + protocol.seconds
    network = _Block(run, _warm(run, protocol, clocks, end), protocol, clocks)
    beside = _Block(reference, _warm(reference, protocol, clocks, end), protocol, clocks, network.seconds)
    burst, group = _plan(network, beside, protocol, end - clocks.late())
    ratios: list[float] = []  # logarithms: noise in the network and noise in the reference then weigh alike
    references: list[float] = []
    while True:
        begun = clocks.late()
        taken, meanwhile = _sample(network, beside, burst, group, turned=len(ratios) % 2 == 1)
        references += meanwhile
        ratios.append(math.log(min(taken)) - math.log(min(meanwhile)))
        late = 2 * clocks.late() - begun > end or len(ratios) >= protocol.samples
        if len(ratios) < LEAST or (not late and len(ratios) < protocol.enough):
            continue
        mean, half = trimmed_mean(ratios, protocol.trim)
        if late or math.expm1(half) <= protocol.precision:
            break
    milliseconds = standard * math.exp(mean)
    slow, fast = np.quantile(references, [0.9, 0.1])
    pace = 1000 * statistics.median(references) / standard
    runs = len(references) * network.times
    return Latency(milliseconds, milliseconds * math.expm1(half), len(ratios), runs, pace, float(slow / fast))


def standard_of(reference: Run, protocol: Protocol, clocks: Clocks = Clocks()) -> float:
    """What an undisturbed run of the reference takes now, in milliseconds: the fastest twentieth of bursts."""
    reference()
    end = clocks.late() + protocol.seconds
    block = _Block(reference, _warm(reference, protocol, clocks, end), protocol, clocks)
    taken: list[float] = []
    while len(taken) < LEAST or (clocks.late() < end and len(taken) < STANDARD):
        taken.append(min(block.burst(protocol.group)))
    return 1000 * float(np.quantile(taken, 0.05))


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


def _plan(network: _Block, beside: _Block, protocol: Protocol, left: float) -> tuple[int, int]:
    """Blocks of a burst and bursts of a sample, so many that enough samples fit into the seconds left."""
    pair = network.lasts + beside.lasts
    if LEAST * pair > left:
        least = f"{LEAST} samples, each with as long a time of the reference"
        raise TooSlow(f"one run takes {network.once:.3g} s; {least}, do not fit into {protocol.seconds:g} s")
    blocks = min(protocol.group, max(1, int(left / (protocol.enough * pair))))
    burst = min(blocks, math.ceil(protocol.burst / min(network.times, beside.times)))
    return burst, blocks // burst


def _sample(a: _Block, b: _Block, burst: int, group: int, turned: bool) -> tuple[list[float], list[float]]:
    """Times of blocks of each, in so many bursts in turns; `turned`: `b` first, so that steady drift cancels."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(group):
        for which in (1, 0) if turned else (0, 1):
            taken[which].extend((a, b)[which].burst(burst))
    return taken


@dataclass(frozen=True)
class _Pace:
    """Seconds of a run, when it is warm."""

    runs: float
    """By the clock that times runs."""
    late: float
    """By the one that tells when it is late."""


class _Block:
    """So many runs, timed together, that they take long enough to be timed."""

    def __init__(
        self, run: Run, pace: _Pace, protocol: Protocol, clocks: Clocks, seconds: float | None = None
    ) -> None:
        """`seconds`: of a block, where it is not what the protocol says."""
        self._run, self._clock = run, clocks.runs
        self.times = min(max(1, round((seconds or protocol.block) / pace.runs)), LONGEST)
        self.seconds = self.times * pace.runs
        self.once, self.lasts = pace.late, self.times * pace.late

    def burst(self, count: int) -> list[float]:
        """Seconds of one run, in the mean of a block, for so many blocks in a row."""
        return [timed(self._run, self.times, self._clock) for _ in range(count)]


def timed(run: Run, times: int, clock: Clock) -> float:
    """Seconds of one of so many runs; above 0, however coarse the clock is."""
    start = clock()
    for _ in range(times):
        run()
    return max(clock() - start, 1e-9) / times


def _warm(run: Run, protocol: Protocol, clocks: Clocks, end: float) -> _Pace:
    """Run until that gets no faster, or a tenth of the time until `end` is over."""
    begun = clocks.late()
    until = begun + (end - begun) / 10
    times, count, taken = 1, 1, [timed(run, 1, clocks.runs)]
    while clocks.late() < until and not _steady(taken, protocol):
        if times < LONGEST and taken[-1] * times < protocol.block / 2:
            times *= 2  # blocks of the length that will be timed
            taken = []
        taken.append(timed(run, times, clocks.runs))
        count += times
    return _Pace(statistics.median(taken[-protocol.window :]), (clocks.late() - begun) / count)


def _steady(taken: Sequence[float], protocol: Protocol) -> bool:
    n = protocol.window
    if len(taken) < 2 * n:
        return False
    before, now = statistics.median(taken[-2 * n : -n]), statistics.median(taken[-n:])
    return now >= (1 - protocol.steady) * before
