"""The spaces that come with the package: what the formulas say is what gets built, and it trains."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from family_contract import declared

from benchmarks import counting
from benchmarks.references import agree
from search_spaces import presets
from search_spaces.declared import METRICS

loaded = cache(declared)


@pytest.mark.parametrize("name", presets())
def test_a_population_costs_what_each_of_it_costs(name: str) -> None:
    space = loaded(name)
    archs = space.sample(100, 1)
    genes = space.genes(archs)
    together = space.costs(genes)
    alone = [space.costs(genes[i : i + 1]) for i in range(len(genes))]
    for metric in METRICS:
        assert together[metric].tolist() == [one[metric][0] for one in alone], metric


@pytest.mark.parametrize("name", presets())
def test_networks_have_the_params_and_macs_of_the_formula_and_equal_keys_build_equal_ones(name: str) -> None:
    found = agree(loaded(name), 3, seed=2)  # of 300: `python -m benchmarks.references --random 300`
    assert found.ok, found


@pytest.mark.usefixtures("large_networks")
@pytest.mark.parametrize("name", presets())
def test_small_networks_run_forward_and_backward(name: str) -> None:
    space = loaded(name)
    archs = space.sample(60, 3)
    work = space.costs(space.genes(archs), ["macs"])["macs"] + 10 * space.costs(space.genes(archs))["params"]
    for i in np.argsort(work)[:2]:
        torch.manual_seed(0)
        model = space.build(archs[i])
        x = counting.example(space, archs[i], 2, "cpu")
        y = model.eval()(x)
        assert y.shape == (2, space.document.classes)
        assert y.isfinite().all()
        assert counting.trains(model, x)
