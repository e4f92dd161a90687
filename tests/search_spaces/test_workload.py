"""Work by kind of operator: it adds up to the exact costs, and a population's is that of each of its networks."""

from __future__ import annotations

import numpy as np
import pytest

from search_spaces import load_space
from search_spaces.declared import DeclaredSpace
from search_spaces.workload import NAMES, workload

SPACES = ("digits-tiny", "nas-bench-201", "ofa-mobilenetv3", "nasnet", "vit-resnas-tiny")


@pytest.fixture(params=SPACES)
def space(request: pytest.FixtureRequest) -> DeclaredSpace:
    found = load_space(request.param)
    assert isinstance(found, DeclaredSpace)
    return found


def columns(work: np.ndarray, quantity: str) -> np.ndarray:
    return work[:, [name.endswith(f": {quantity}") for name in NAMES]].sum(axis=1)


def test_macs_of_all_kinds_are_the_network_s(space: DeclaredSpace) -> None:
    genes = space.genes(space.sample(20, 0))
    np.testing.assert_allclose(columns(workload(space, genes), "macs"), space.costs(genes)["macs"], rtol=1e-12)


def test_a_population_works_as_each_of_its_networks_does(space: DeclaredSpace) -> None:
    genes = space.genes(space.sample(12, 1))
    alone = np.concatenate([workload(space, row[None]) for row in genes])
    np.testing.assert_allclose(workload(space, genes), alone, rtol=1e-12)


def test_weights_and_calls_are_those_of_the_outline() -> None:
    space = load_space("ofa-mobilenetv3")
    assert isinstance(space, DeclaredSpace)
    arch = space.sample(1, 2)[0]
    work = dict(zip(NAMES, workload(space, space.genes([arch]))[0], strict=True))
    lines = [line for line in space.outline(arch) if line.operation.quantized]
    assert columns(np.array([list(work.values())]), "weights")[0] == sum(line.weights for line in lines)
    depthwise = [line for line in lines if type(line.operation).__name__ == "Depthwise"]
    assert work["depthwise 3: calls"] + work["depthwise 5: calls"] + work["depthwise: calls"] == len(depthwise)
    for side, kind in ((3, "depthwise 3"), (5, "depthwise 5"), (7, "depthwise")):
        of_side = [line for line in depthwise if line.operation.kernel == side]
        assert work[f"{kind}: macs"] == sum(line.macs for line in of_side)
