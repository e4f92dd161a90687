"""How many architectures a second one core draws, mutates, encodes and counts; and how fast a network is built.

Beside ours, in the same run: Optuna suggesting the same choices one by one, and the plain torch modules of the
same network without any space around them.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping

import numpy as np
import optuna
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from search_spaces import Space, load_space
from search_spaces.encodings import mixed, one_hot
from search_spaces.load import load_reference
from search_spaces.operators import crossover, mutate, sample

TARGETS = {"sample and canonicalise": 2e5, "mutate": 2e5, "encode": 3e5, "params and macs": 2e5}
BUILD_TARGET_MS = 60.0


def main(space: str = "fbnetv3", n: int = 20_000, as_json: bool = False) -> None:
    torch.set_num_threads(1)
    found = rates(load_space(space), n)
    ours, bare = building("mobilenetv2")
    if as_json:
        print(json.dumps({"space": space, "per_second": found, "build_ms": ours, "bare_modules_ms": bare}))
        return
    table = Table(title=f"{space}: architectures a second, one core", title_justify="left")
    for column in ("what", "a second", "target", "times Optuna's sampling"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for name, rate in found.items():
        target = f"{TARGETS[name]:,.0f}" if name in TARGETS else ""
        table.add_row(name, f"{rate:,.0f}", target, f"{rate / found['Optuna RandomSampler, suggest']:,.0f}")
    Console().print(table)
    print(
        f"build MobileNetV2: {ours:.0f} ms (target {BUILD_TARGET_MS:.0f}); "
        f"its bare torch modules: {bare:.0f} ms; ratio {ours / bare:.2f}"
    )


def rates(space: Space, n: int) -> dict[str, float]:
    """Architectures a second of everything that searchers do with populations."""
    rng = np.random.default_rng(0)
    genes = sample(space, n, rng)
    work: Mapping[str, Callable[[], object]] = {
        "sample and canonicalise": lambda: sample(space, n, rng),
        "mutate": lambda: mutate(space, genes, rng),
        "crossover": lambda: crossover(space, genes, genes[::-1], rng),
        "encode": lambda: mixed(space, genes),
        "encode, one-hot": lambda: one_hot(space, genes),
        "params and macs": lambda: space.costs(genes, ["params", "macs"]),
        "all four costs": lambda: space.costs(genes),
    }
    found = {name: n / _best(do) for name, do in work.items()}
    few = 200
    found["Optuna RandomSampler, suggest"] = few / _best(lambda: _optuna(space, few))
    return found


def building(name: str) -> tuple[float, float]:
    """Milliseconds of building a reference network, and of making the same torch modules anew."""
    space = load_reference(name)
    arch = space.sample(1, 0)[0]
    model = space.build(arch)
    again = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.BatchNorm2d)]
    return 1e3 * _best(lambda: space.build(arch), 7), 1e3 * _best(lambda: [_fresh(m) for m in again], 7)


def _fresh(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.Conv2d):
        m = module
        return nn.Conv2d(
            m.in_channels,
            m.out_channels,
            m.kernel_size,
            m.stride,
            m.padding,
            m.dilation,
            m.groups,  # type: ignore[arg-type]
        )
    if isinstance(module, nn.Linear):
        return nn.Linear(module.in_features, module.out_features)
    assert isinstance(module, nn.BatchNorm2d)
    return nn.BatchNorm2d(module.num_features)


def _optuna(space: Space, n: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(n):
        trial = study.ask()
        for choice in space.choices:
            trial.suggest_categorical(choice.name, choice.values)


def _best(do: Callable[[], object], rounds: int = 5) -> float:
    """Seconds of the fastest of several rounds: the machine's other work only ever adds."""
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter()
        do()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="fbnetv3")
    parser.add_argument("-n", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    main(options.space, options.n, options.json)
