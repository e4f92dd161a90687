"""Speed of quantization, and whether the whitepaper's orderings hold here: ``python -m benchmarks.quantization``.

How much slower a forward pass is that computes as the integers would; calibration of MobileNetV2 at 224 x 224 with
100 images; packing of weights. Then networks of depthwise convolutions with batch norm, trained here from several
seeds: 8-bit weights by channel beside one scale a weight, and quantization-aware training beside rounding
afterwards at 4 bits and fewer (Krishnamoorthi 2018, tables 2 to 5), by accuracy on the test part. Its learning
rate is, for each policy, the one that is best on the validation part, in the mean over seeds.

Times are the least of several repeats, by wall time and by CPU time of the process, one thread unless it says
otherwise. The float network beside a fake-quantized one has its batch norms folded too. ``--only speed`` or
``--only orderings``; ``--quick``: two seeds, and small networks only.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import nas
from benchmarks.figures import Figure
from benchmarks.figures import table as speed_table
from benchmarks.tables import DATA
from nas.evaluators import datasets
from nas.evaluators.fitting import fit, measure, placed
from nas.evaluators.qat import finetuned
from nas.evaluators.quantize import quantized
from search_spaces import load_space
from search_spaces.declared import DeclaredSpace
from search_spaces.load import load_reference
from search_spaces.quantization import Bits
from search_spaces.recipe import Recipe
from search_spaces.schemes import Packed, Scheme

SLOWER, CALIBRATION, PACKING, EXPORT = 1.6, 30.0, 200.0, 15.0
"""Wanted: at most so many times the float forward pass, at most so many seconds, at least so many MB of weights a
second, and at most so many seconds."""
REPEATS = 7
KINDS = (2, 3, 4, 8, 16, "ternary", "ternary_2bit", "ternary_3of4")
RECIPE = Recipe(learning_rate=0.02, batch_size=64)
CALIBRATED = 512
POLICIES = {
    "8 bits, by tensor": Bits(8, 8, granularity="tensor"),
    "8 bits, by channel": Bits(8, 8),
    "4 bits, by tensor": Bits(4, 8, granularity="tensor"),
    "4 bits, by channel": Bits(4, 8),
    "3 bits, by channel": Bits(3, 8),
    "ternary, by channel": Bits("ternary", 8),
}
AWARE = tuple(POLICIES)[2:]
"""Policies with quantization-aware training beside rounding afterwards."""
RATES = (3e-4, 1e-3, 5e-3)
"""Its learning rates."""
ORDERINGS = (("8 bits, by tensor", "8 bits, by channel"), *((name, f"{name}, QAT") for name in AWARE))
"""Pairs of which the second should be at least as accurate."""


@dataclass(frozen=True)
class Lesson:
    """What networks of depthwise convolutions learn."""

    name: str
    source: str
    """Of the data set, for `datasets.load`."""
    examples: int
    """Of the training part, at most."""
    epochs: int
    aware: int
    """Epochs of quantization-aware training."""
    space: Mapping[str, object]

    def network(self) -> DeclaredSpace:
        """The space of the one network."""
        found = load_space({"family": "staged", "classes": 10, **self.space})
        assert isinstance(found, DeclaredSpace)
        return found


def residuals(*widths: int) -> list[dict[str, object]]:
    """Stages of two inverted residuals each, at half the resolution of the one before."""
    block = {"block": "inverted_residual", "depth": 2, "expansion": 4, "stride": 2}
    return [{**block, "width": width} for width in widths]


DIGITS = Lesson(
    *("digits", "digits", 1_077, 12, 4),
    {"input": [1, 8, 8], "architecture": {"stem": {"width": 8}, "stages": residuals(16, 32)}},
)
FASHION = Lesson(
    *("Fashion-MNIST", str(DATA / "fashion-mnist"), 10_000, 8, 3),
    {"input": [1, 28, 28], "architecture": {"stem": {"width": 16, "stride": 2}, "stages": residuals(16, 24, 32)}},
)


@dataclass(frozen=True)
class Found:
    """One network by one policy."""

    policy: str
    rate: float
    """Of quantization-aware training; 0 where there was none."""
    validation: float
    """Accuracy in percent."""
    test: float
    decibels: float


@dataclass(frozen=True)
class Row:
    """Accuracies of one policy, one a seed, in percent."""

    policy: str
    rate: float
    accuracies: tuple[float, ...]
    decibels: tuple[float, ...]
    """Signal to noise ratio of its logits, the float network's being the signal; infinite for that."""

    @property
    def mean(self) -> float:
        """Over seeds."""
        return float(np.mean(self.accuracies))

    @property
    def spread(self) -> float:
        """The standard deviation over seeds."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else 0.0


def speeds(quick: bool) -> Iterator[Figure]:
    """Everything that has a bound."""
    torch.set_num_threads(1)
    digits = load_space("digits-tiny")
    assert isinstance(digits, DeclaredSpace)
    for batch in (32, 256):
        yield slower(f"digits-tiny, batch {batch}", digits, (batch, 1, 8, 8))
    if not quick:
        large = load_reference("mobilenetv2")
        assert isinstance(large, DeclaredSpace)
        yield slower("MobileNetV2 at 224, batch 32", large, (32, 3, 224, 224), repeats=3)
        yield calibration(large)
    yield from packing(2**20 if quick else 2**23)
    yield exporting()


def slower(what: str, space: DeclaredSpace, shape: tuple[int, ...], repeats: int = REPEATS) -> Figure:
    """How many times as long as the float network a fake-quantized one takes; the two in turn."""
    model, policy = network(space)
    x = torch.randn(shape)
    found = quantized(model, policy, [x[:8]])
    simulated = found.simulated()
    times = np.full((2, 2), np.inf)
    with torch.inference_mode():
        for _ in range(repeats):
            for i, run in enumerate((found.model, simulated)):
                times[i] = np.minimum(times[i], clocked(partial(run, x)))
    wall, cpu = times[1] / times[0]
    return Figure("fake-quantized / float forward", what, wall, "", cpu, most=SLOWER)


def calibration(space: DeclaredSpace) -> Figure:
    """Seconds with 100 images on two threads."""
    model, policy = network(space)
    x = torch.randn(100, 3, 224, 224)
    torch.set_num_threads(2)
    wall, cpu = clocked(lambda: quantized(model, policy, x.split(10)))
    torch.set_num_threads(1)
    return Figure("calibration", "MobileNetV2, 100 images at 224, 2 threads", wall, "s", cpu, most=CALIBRATION)


def packing(entries: int) -> Iterator[Figure]:
    """Megabytes of weights in 32 bits a second: codes to bytes, and all from the weight on."""
    weight = np.random.default_rng(0).normal(size=(256, entries // 256)).astype(np.float32)
    for bits in KINDS:
        kind = f"{bits} bits" if isinstance(bits, int) else bits
        scheme = Bits(bits, 32).stored
        encoded = scheme.encode(weight)
        for what, run in (
            ("packing", partial(scheme.pack, encoded)),
            ("encoding and packing", partial(_encoded_and_packed, scheme, weight)),
        ):
            times = np.min([clocked(run) for _ in range(REPEATS)], axis=0)
            wall, cpu = weight.nbytes / 1e6 / times
            least = PACKING if what == "packing" else None
            yield Figure(what, kind, wall, "MB/s", cpu, least=least)


def _encoded_and_packed(scheme: Scheme, weight: NDArray[np.float32]) -> Packed:
    return scheme.pack(scheme.encode(weight))


def exporting() -> Figure:
    """Seconds from a trial of digits to its checked ONNX file: trained again (10 epochs), written, verified."""
    digits = {
        "space": "digits-tiny",
        "objectives": ["max accuracy"],
        "initial": [{"quantization.*.weight_bits": 8}],
    }
    result = nas.search(digits, max_trial_count=1, executor="inline")
    with TemporaryDirectory() as folder:
        wall, cpu = clocked(lambda: result.export(0, Path(folder) / "model.onnx"))
    return Figure("export", "a digits network, trained again and verified", wall, "s", cpu, most=EXPORT)


def network(space: DeclaredSpace) -> tuple[nn.Module, dict[str, Bits]]:
    """An untrained network of the space, and a policy of 8 bits throughout."""
    (arch,) = space.sample(1, 0)
    torch.manual_seed(0)
    return placed(space.build(arch), "cpu").eval(), {name: Bits(8, 8) for name in space.policy(arch)}


def clocked(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds by wall time and by CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def orderings(lesson: Lesson, seeds: int) -> Iterator[Row]:
    """Accuracies of every policy over seeds, each at the rate that is best on the validation part."""
    found = []
    for seed in range(seeds):
        for figures in trained(lesson, seed):
            found.append(figures)
            told = f"{figures.policy}, rate {figures.rate:g}: {figures.validation:.2f} %"
            print(f"seed {seed + 1} of {seeds}: {told} of the validation part", file=sys.stderr, flush=True)
    for policy in dict.fromkeys(f.policy for f in found):
        rates: dict[float, list[Found]] = {}
        for f in found:
            if f.policy == policy:
                rates.setdefault(f.rate, []).append(f)
        rate, best = max(rates.items(), key=lambda item: np.mean([f.validation for f in item[1]]))
        yield Row(policy, rate, tuple(f.test for f in best), tuple(f.decibels for f in best))


def trained(lesson: Lesson, seed: int) -> Iterator[Found]:
    """One network by each policy, and after quantization-aware training at each rate."""
    space, splits = lesson.network(), datasets.load(lesson.source)
    train = splits.train[: lesson.examples]
    x, y = torch.from_numpy(train.x), torch.from_numpy(train.y)
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    arch = space.architecture({})
    model = placed(space.build(arch), "cpu")
    fit(model, x, y, RECIPE, lesson.epochs, np.random.default_rng(seed), unheard)
    expected = logits(model, torch.from_numpy(splits.test.x))

    def figures(policy: str, rate: float, of: nn.Module) -> Found:
        validation, test = (
            100 * measure(of, torch.from_numpy(part.x), torch.from_numpy(part.y))[0]
            for part in (splits.validation, splits.test)
        )
        noise = (logits(of, torch.from_numpy(splits.test.x)) - expected).square().sum().item()
        decibels = 10 * math.log10(expected.square().sum().item() / noise) if noise else math.inf
        return Found(policy, rate, validation, test, decibels)

    def again() -> np.random.Generator:
        return np.random.default_rng([seed, 1])

    yield figures("float", 0.0, model)
    for rate in RATES:
        longer = placed(space.build(arch), "cpu")
        longer.load_state_dict(model.state_dict())
        fit(longer, x, y, replace(RECIPE, learning_rate=rate), lesson.aware, again(), unheard)
        yield figures("float, trained on for as long as QAT", rate, longer)
    for name, bits in POLICIES.items():
        rounded = quantized(model, dict.fromkeys(space.policy(arch), bits), x[:CALIBRATED].split(32))
        yield figures(name, 0.0, rounded.simulated())
        for rate in RATES if name in AWARE else ():
            recipe = replace(RECIPE, qat_learning_rate=rate)
            learnt = finetuned(rounded, x, y, recipe, lesson.aware, again(), unheard)
            yield figures(f"{name}, QAT", rate, learnt.simulated())


def logits(model: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model.eval()(x).double()
    return found


def unheard(step: int, metrics: Mapping[str, float]) -> None:
    """Nobody listens."""


def ordering_tables(lesson: Lesson, rows: Sequence[Row]) -> Iterator[Table]:
    """Accuracies, and the pairs that should be ordered, seed by seed."""
    title = (
        f"Accuracy on the test part of {lesson.name}, {len(rows[0].accuracies)} seeds; {lesson.epochs} epochs of "
        f"{lesson.examples:,} examples, QAT {lesson.aware}"
    )
    made = Table(title=title, title_justify="left")
    for column in ("policy", "rate", "mean %", "spread", "least", "most", "dB"):
        made.add_column(column, justify="left" if column == "policy" else "right")
    for row in rows:
        ends = (min(row.accuracies), max(row.accuracies), float(np.mean(row.decibels)))
        rate = f"{row.rate:g}" if row.rate else ""
        made.add_row(row.policy, rate, f"{row.mean:.2f}", f"{row.spread:.2f}", *(f"{end:.2f}" for end in ends))
    yield made
    by_name = {row.policy: row for row in rows}
    pairs = Table(title="Orderings of the whitepaper: points gained, and dB", title_justify="left")
    for column in ("should be at least as accurate as", "points", "error", "dB", "better, equal, worse", ""):
        pairs.add_column(column, justify="left" if column.startswith("should") else "right")
    for lower, upper in ORDERINGS:
        gain = np.subtract(by_name[upper].accuracies, by_name[lower].accuracies)
        error = float(gain.std(ddof=1) / len(gain) ** 0.5)
        decibels = np.mean(np.subtract(by_name[upper].decibels, by_name[lower].decibels))
        verdict = "holds" if gain.mean() >= 0 else "within the error" if -gain.mean() <= 2 * error else "not so"
        seeds = f"{(gain > 0).sum()}, {(gain == 0).sum()}, {(gain < 0).sum()}"
        told = (f"{gain.mean():+.2f}", f"{error:.2f}", f"{decibels:+.1f}")
        pairs.add_row(f"{upper}: {lower}", *told, seeds, verdict)
    yield pairs


def main() -> None:
    """Measure, and print the tables; missed figures are marked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("speed", "orderings"), help="one part of it")
    parser.add_argument("--data", choices=("digits", "fashion-mnist"), help="of the orderings")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two seeds, and small networks only")
    parser.add_argument("--json", type=Path, help="file for all figures")
    options = parser.parse_args()
    console, figures, rows = Console(), [], []
    if options.only != "orderings":
        before, figures = os.getloadavg()[0], list(speeds(options.quick))
        console.print(speed_table("Speed of quantization", "of", figures, before))
    if options.only != "speed":
        there = Path(FASHION.source).exists()
        if options.data == "fashion-mnist" and not there:
            parser.error(f"{FASHION.source} is not there")
        small = options.quick or not there or options.data == "digits"
        lesson = DIGITS if small and options.data != "fashion-mnist" else FASHION
        rows = list(orderings(lesson, 2 if options.quick else options.seeds))
        for table in ordering_tables(lesson, rows):
            console.print(table)
    if options.json:
        found = {"speeds": [asdict(f) for f in figures], "orderings": [asdict(r) for r in rows]}
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
