"""NASNet's way (Zoph et al., CVPR 2018): search small cells, stack the best one large, and train that.

    python examples/transfer.py --data FOLDER        # four idx files laid out as MNIST's; Fashion-MNIST, say

The search trains networks of N=2 cells a stage and F=16 channels for one epoch on few examples. The cell that did
best is then stacked with N=6 and F=32 and trained for one epoch on all of them.
"""

import argparse

import nas
from search_spaces import Space, load_space
from search_spaces.cell import CellSpace
from search_spaces.load import preset


def small_space() -> CellSpace:
    """The preset's cells at N=2, F=16."""
    document = preset("fashion-cell")
    document["architecture"] |= {"cells": 2, "width": 16}
    document["recipe"] |= {"epochs": 1}
    space = load_space(document)
    assert isinstance(space, CellSpace)
    return space


def main(data: str, trials: int, examples: int, workers: int, seed: int) -> None:
    """Search, transfer, train, test."""
    space = small_space()
    print(f"search: {trials} trials of N=2, F=16 on {examples} examples each")
    found = nas.search(
        space=space,
        objectives=["max accuracy", "min macs"],
        searcher="regularized_evolution",
        evaluator={"kind": "training", "dataset": data, "train_limit": examples},
        max_trial_count=trials,
        parallel_trial_count=workers,
        seed=seed,
        progress=True,
    )
    best = found.best("accuracy")
    print(f"best: accuracy {best['accuracy']:.4f}, {best['params']:,.0f} params, {best['macs']:,.0f} MACs")

    large, arch = space.transfer(space.architecture(best["architecture"]), cells=6, width=32)
    cost = large.cost(arch)
    print(f"the same cell at N=6, F=32: {cost['params']:,.0f} params, {cost['macs']:,.0f} MACs; one epoch")
    row = train(large, dict(arch), data, seed).trials.iloc[0]
    print(f"validation accuracy {row['accuracy']:.4f} after {row['train_seconds']:.0f} s of training")


def train(space: Space, architecture: dict[str, object], data: str, seed: int) -> nas.SearchResult:
    """One architecture, trained by its recipe and measured on validation data."""
    return nas.search(
        space=space,
        objectives=["max accuracy"],
        evaluator={"kind": "training", "dataset": data},
        initial=[architecture],
        max_trial_count=1,
        seed=seed,
        executor="inline",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of the data set")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--examples", type=int, default=2000, help="training examples a trial of the search")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    main(options.data, options.trials, options.examples, options.workers, options.seed)
