"""That the comparison of joint and two-stage search compares what it says; the searches here train nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.joint_quantization import (
    BITS,
    INT8,
    JOINT,
    PLAIN,
    REFERENCE,
    TWO_STAGE,
    Int8,
    Point,
    Protocol,
    Row,
    cells,
    compared,
    finished,
    points,
    smallest_within,
    table,
    volume,
)
from nas import search
from nas.job import Budget, JobSpec
from nas.local import study_of, submit
from nas.storage import open_store
from search_spaces import Architecture, BuildError, load_space
from search_spaces.operators import sample
from search_spaces.staged import StagedSpace
from search_spaces.staged_document import StagedDocument

PERCENT, BYTES = st.floats(0, 100), st.integers(1, 2**22)
FOUND = st.lists(st.builds(Point, PERCENT, BYTES, st.integers(0, 99)), max_size=12)


@given(FOUND, PERCENT)
def test_nothing_smaller_is_accurate_enough(found: list[Point], accuracy: float) -> None:
    chosen = smallest_within(found, accuracy)
    enough = [p for p in found if p.accuracy >= accuracy]
    if chosen is None:
        assert not enough
    else:
        assert chosen.accuracy >= accuracy - 1e-9
        assert all(chosen.size <= p.size for p in enough)


def test_of_equally_small_networks_the_most_accurate_is_chosen() -> None:
    found = [Point(85.0, 900, 0), Point(86.0, 900, 1), Point(90.0, 1000, 2), Point(84.0, 100, 3)]
    assert smallest_within(found, 85.0) == found[1]
    assert smallest_within(found, 95.0) is None


@given(FOUND, st.builds(Point, PERCENT, BYTES, st.just(0)))
def test_another_network_never_makes_the_volume_less(found: list[Point], more: Point) -> None:
    before, after = (volume(some) if some else 0.0 for some in (found, [*found, more]))
    assert after >= before - 1e-9
    assert after >= volume([more]) - 1e-9


def test_a_volume_by_hand() -> None:
    percent, doublings = REFERENCE
    one, two = Point(percent + 10, 2 ** (doublings - 2), 0), Point(percent + 4, 2 ** (doublings - 5), 1)
    assert volume([one]) == pytest.approx(10 * 2)
    assert volume([one, two]) == pytest.approx(10 * 2 + 4 * 3)
    assert volume([Point(percent, 1, 0), Point(100, 2**doublings, 1)]) == 0


def test_each_method_is_compared_with_the_most_accurate_network_at_8_bits() -> None:
    int8 = [Point(88.0, 40_000, 0), Point(87.6, 20_000, 1), Point(80.0, 5_000, 2)]
    joint = [Point(88.2, 16_000, 0), Point(87.5, 10_000, 1), Point(87.4, 2_000, 2)]
    rows = compared(7, int8, joint, lambda method, trial: 80 + trial + (0.5 if method == JOINT else 0))
    found = {(r.method, r.slack): (r.ratio, r.test) for r in rows}
    assert found == {
        (PLAIN, 0.5): (1, 80),
        (PLAIN, 0.0): (1, 80),
        (TWO_STAGE, 0.5): (2, 81),
        (TWO_STAGE, 0.0): (1, 80),
        (JOINT, 0.5): (4, 81.5),
        (JOINT, 0.0): (2.5, 80.5),
    }
    assert {r.method: r.hypervolume for r in rows} == {
        PLAIN: volume(int8[:1]),
        TWO_STAGE: volume(int8),
        JOINT: volume(joint),
    }


def test_a_method_without_such_a_network_has_none() -> None:
    rows = compared(0, [Point(88.0, 40_000, 0)], [Point(87.6, 10_000, 4)], lambda method, trial: 80.0)
    lossless = next(r for r in rows if (r.method, r.slack) == (JOINT, 0.0))
    assert (lossless.size, lossless.ratio, lossless.accuracy, lossless.test) == (None,) * 4


def test_the_table_has_every_seed_and_their_means() -> None:
    one = Row(0, JOINT, 0.5, 10.0, 1000.0, 3.0, 87.0, 86.0)
    two = replace(one, seed=1, hypervolume=14.0, ratio=5.0)
    assert cells([one]) == ["10.0", "1,000", "3.00", "87.00", "86.00"]
    assert cells([one, two])[:3] == ["12.0 ± 2.8", "1,000 ± 0", "4.00 ± 1.41"]
    assert cells([one, Row(1, JOINT, 0.5, 14.0)])[2] == "3.00 (1 of 2)"
    assert cells([Row(1, JOINT, 0.5, 14.0)])[1:] == ["none"] * 4
    assert table([one, two], "").row_count == 3


def test_int8_has_the_keys_of_floats_and_a_quarter_of_their_weights() -> None:
    floats = load_space(Protocol().space({}))
    document = StagedDocument.model_validate(Protocol().space(INT8))
    int8 = Int8(document)
    genes = sample(floats, 20, np.random.default_rng(0))
    one, other = floats.architectures(genes), int8.architectures(genes)
    assert one == other
    assert [a.key for a in one] != [a.key for a in StagedSpace(document).architectures(genes)]
    assert {(b.weight, b.activation) for b in int8.policy(other[0]).values()} == {(8, 8)}
    ratio = floats.costs(genes)["model_size_bytes"] / int8.costs(genes)["model_size_bytes"]
    assert (ratio > 2).all()
    assert (ratio < 4).all()


def test_all_searches_may_spend_the_same() -> None:
    protocol = Protocol()
    specs = [
        protocol.job("floats", 0, space=protocol.space({})),
        protocol.job(JOINT, 0, space=protocol.space(BITS, protocol.aware)),
    ]
    for spec in specs:
        assert isinstance(spec.space, StagedDocument)
        recipe = spec.space.recipe
        assert recipe.epochs is not None
        assert recipe.epochs.values[0] + recipe.qat_epochs.values[0] == protocol.epochs
    assert specs[0].budget == specs[1].budget
    assert specs[0].evaluator == specs[1].evaluator
    assert specs[0].searcher == specs[1].searcher


def test_an_interrupted_search_goes_on_and_a_finished_one_is_looked_up() -> None:
    store = open_store(None)
    spec = JobSpec.parse(
        {
            "name": "joint, seed 0",
            "space": "digits-tiny",
            "objectives": ["min params", "min model_size_bytes"],
            "searcher": "random",
            "evaluator": "cost",
            "budget": {"max_trial_count": 5},
        }
    )
    left = submit(store, study_of(spec))  # and never driven
    other = finished(store, spec.model_copy(update={"seed": 1}))
    first, again = finished(store, spec), finished(store, spec)
    assert left == first.job.id == again.job.id != other.job.id
    assert len(again.all_trials) == 5
    shorter = finished(store, spec.model_copy(update={"budget": Budget(max_trial_count=3)}))
    assert shorter.all_trials == again.all_trials[:3]
    longer = finished(store, spec.model_copy(update={"budget": Budget(max_trial_count=7)}))
    assert [t.architecture for t in longer.all_trials[:5]] == [t.architecture for t in again.all_trials]


def test_measured_trials_are_points_in_percent_and_bytes() -> None:
    def measure(architecture: Architecture) -> dict[str, float]:
        if architecture["stem.width"] == 16:
            raise BuildError("too wide")
        return {"accuracy": 0.875}

    result = search(
        space=Protocol().space(INT8),
        objectives=["max accuracy", "min model_size_bytes"],
        evaluator=measure,
        searcher="random",
        executor="inline",
        max_trial_count=8,
    )
    found = points(result)
    assert {p.accuracy for p in found} == {87.5}
    sizes = {t.number: t.metrics["model_size_bytes"] for t in result.all_trials if t.metrics}
    assert {p.trial: p.size for p in found} == sizes
    assert 0 < len(sizes) < 8
