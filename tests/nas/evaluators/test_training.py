"""The training evaluator: it learns, the same way twice, and never looks at the test part."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import pickle
import subprocess
import sys
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.evaluators import datasets
from nas.evaluators.fitting import averaging, fit, learning_rate, measure, placed
from nas.evaluators.infeasible import Infeasible
from nas.evaluators.training import TrainingConfig, TrainingEvaluator
from nas.trial import Proposal
from search_spaces import Architecture, Recipe, Space, SpecError, load_space
from search_spaces.modules.layers import Auxiliary, DropPath
from search_spaces.staged import StagedSpace


def space(recipe: Mapping[str, Any] | None = None, residual: bool = False, **changes: Any) -> StagedSpace:
    """Small networks, so that a training takes a fraction of a second; `residual` ones have a second block."""
    stage: dict[str, Any] = {"block": "conv", "depth": 1, "width": [32, 40], "stride": 2}
    if residual:
        stage |= {"depth": 2, "residual": True}
    found = load_space(
        {
            "family": "staged",
            "input": [1, 8, 8],
            "classes": 10,
            "architecture": {
                "stem": {"width": 16},
                "stages": [stage],
            },
            "quantization": {"weight_bits": [2, 8, 32], "activation_bits": [8, 32]},
            "recipe": {"learning_rate": 0.02, "batch_size": 32, **(recipe or {})},
            **changes,
        }
    )
    assert isinstance(found, StagedSpace)
    return found


def arch(of: Space, bits: int = 32, **values: Any) -> Architecture:
    """The first value of every choice, but for the ones given."""
    chosen: dict[str, Any] = {c.name: c.values[0] for c in of.choices}
    chosen |= {name: bits for name in chosen if name.endswith("weight_bits")}
    return of.canonical(of.architecture({**chosen, **values}))


def silent(step: int, metrics: Mapping[str, float]) -> None:
    pass


def bound(of: Space, seed: int = 0, **settings: Any) -> TrainingEvaluator:
    return TrainingConfig(**{"epochs": 2, "device": "cpu", **settings}).bind(of, seed)


def measured(of: Space, architecture: Architecture, seed: int = 0, **settings: Any) -> dict[str, float]:
    """Metrics but for the time that they took."""
    found = dict(bound(of, seed, **settings).evaluate(Proposal(architecture), silent))
    assert found.pop("train_seconds") > 0
    return found


def npz(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return str(path)


def faults(of: Space, **settings: Any) -> dict[str, str]:
    return {f.path: f.message for f in TrainingConfig(**settings).faults(of)}


@pytest.mark.parametrize(("optimizer", "rate"), [("adamw", 0.02), ("sgd", 0.1), ("rmsprop", 0.003)])
def test_it_learns(optimizer: str, rate: float) -> None:
    of = space({"optimizer": optimizer, "learning_rate": rate})
    found = measured(of, arch(of), epochs=4)
    assert set(found) == {"accuracy", "loss"}
    assert found["accuracy"] > 0.85
    assert found["loss"] < 0.7


def test_the_same_architecture_trains_the_same_way() -> None:
    of = space()
    one = measured(of, arch(of))
    torch.manual_seed(99)  # nothing outside of the evaluator matters
    assert measured(of, arch(of)) == one
    assert measured(of, arch(of), seed=1) != one


def test_a_pickled_evaluator_measures_alike() -> None:
    of = space()
    copied = pickle.loads(pickle.dumps(bound(of)))
    found = dict(copied.evaluate(Proposal(arch(of)), silent))
    assert {k: found[k] for k in ("accuracy", "loss")} == measured(of, arch(of))


def test_the_policy_is_applied_and_coarser_is_worse() -> None:
    of = space()
    full, eight, two = (measured(of, arch(of, bits), epochs=4) for bits in (32, 8, 2))
    assert full["accuracy"] - eight["accuracy"] < 0.05
    assert two["accuracy"] < full["accuracy"] - 0.1
    assert two["loss"] > full["loss"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("optimizer", ["adamw", "sgd", "rmsprop"]),
        ("learning_rate", [0.01, 0.02]),
        ("weight_decay", [0.0, 0.1]),
        ("schedule", ["cosine", "constant"]),
        ("label_smoothing", [0.0, 0.2]),
        ("mixup", [0.0, 0.4]),
        ("dropout", [0.0, 0.3]),
        ("stochastic_depth", [0.0, 0.5]),
        ("ema_decay", [0.0, 0.9]),
        ("batch_size", [32, 100]),
    ],
)
def test_every_part_of_the_recipe_has_an_effect(name: str, values: list[Any]) -> None:
    of = space({name: values}, residual=True)
    train = datasets.load("digits").train[:200]
    x, y = torch.from_numpy(train.x), torch.from_numpy(train.y)
    losses = set()
    for value in values:
        architecture = arch(of, **{f"recipe.{name}": value})
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = of.build(architecture)
        fit(model, x, y, of.recipe(architecture), 1, np.random.default_rng(0), silent)
        losses.add(measure(model, x, y)[1])
    assert len(losses) == len(values)


def test_schedules_by_closed_form() -> None:
    at = [0.0, 0.25, 0.5, 0.75]
    rates = {s: [learning_rate(Recipe(schedule=s, learning_rate=2.0), t) for t in at] for s in SCHEDULES}
    assert rates["constant"] == [2.0] * 4
    assert rates["linear"] == [2.0, 1.5, 1.0, 0.5]
    assert rates["cosine"] == pytest.approx([2.0, 1 + 0.5**0.5, 1.0, 1 - 0.5**0.5])


SCHEDULES = ("constant", "linear", "cosine")


def test_weights_decay_but_norms_and_biases_do_not() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    recipe = Recipe(learning_rate=1e-4, weight_decay=5000.0, schedule="constant", batch_size=8)
    fit(model, torch.randn(8, 1, 4, 4), torch.arange(8) % 2, recipe, 1, np.random.default_rng(0), silent)
    for name, p in model.named_parameters():
        halved = before[name] / 2 if p.ndim > 1 else before[name]
        torch.testing.assert_close(p.detach(), halved, atol=2e-4, rtol=0)


@pytest.mark.parametrize(
    "source", [[1, 8, 8], {"vocabulary": 9, "length": 4, "segments": 2}], ids=["image", "text"]
)
def test_positions_and_tokens_do_not_decay(source: Any) -> None:
    stages = [{"width": 8, "depth": 1, "heads": 2, "head_dim": 4, "mlp": 16}]
    architecture = {"stages": stages, **({"stem": {"patch": 4}} if isinstance(source, list) else {})}
    of = load_space({"family": "transformer", "input": source, "classes": 2, "architecture": architecture})
    model = of.build(of.architecture({}))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    recipe = Recipe(learning_rate=1e-4, weight_decay=5000.0, schedule="constant", batch_size=8)
    x = torch.randn(8, 1, 8, 8) if isinstance(source, list) else torch.randint(9, (8, 4))
    fit(model, x, torch.arange(8) % 2, recipe, 1, np.random.default_rng(0), silent)
    kept = {"stem.positions.weight", "stem.segments.weight", "stem.class_token.weight"}
    assert len(kept & before.keys()) == 2
    for name, p in model.named_parameters():
        decays = p.ndim > 1 and name not in kept
        torch.testing.assert_close(p.detach(), before[name] / (2 if decays else 1), atol=2e-4, rtol=0, msg=name)


def trained(model: nn.Module, recipe: Recipe, x: Tensor, y: Tensor, epochs: int = 1) -> None:
    fit(model, x, y, recipe, epochs, np.random.default_rng(0), silent)


def test_the_averaged_weights_are_left_and_buffers_are_copied() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    plain, x, y = copy.deepcopy(model), torch.randn(12, 3), torch.arange(12) % 2
    recipe = Recipe(optimizer="sgd", learning_rate=0.5, batch_size=4)
    expected: dict[str, Tensor] = {}
    for steps in range(1, 4):  # the same three steps, stopped after each
        partial = copy.deepcopy(plain)
        seen = Stopper(partial, steps)
        with contextlib.suppress(KeyboardInterrupt):
            trained(seen, recipe, x, y)
        stay = averaging(0.3, steps - 1) if steps > 1 else 0.0
        after = {n: p.detach() for n, p in partial.named_parameters()}
        expected = {n: stay * expected.get(n, p) + (1 - stay) * p for n, p in after.items()}
    trained(model, dataclasses.replace(recipe, ema_decay=0.3), x, y)
    trained(plain, recipe, x, y)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), expected[name])
        if name != "0.bias":  # batch norm takes it away again, so nothing but rounding moves it
            assert not torch.equal(p, plain.get_parameter(name))
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, plain.get_buffer(name))


class Stopper(nn.Module):
    """Interrupts a training at its step number `steps`, counted from 0."""

    def __init__(self, model: nn.Module, steps: int) -> None:
        super().__init__()
        self.model, self.left = model, steps

    def forward(self, x: Tensor) -> Tensor:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return self.model(x)


def test_averages_forget_their_start_by_closed_form() -> None:
    assert [averaging(0.9999, t) for t in (1, 8, 90)] == [2 / 11, 0.5, 0.91]
    assert averaging(0.9, 1000) == 0.9


class Progressive(DropPath):
    """A scheduled drop path that remembers how far the training was at every step."""

    def __init__(self) -> None:
        super().__init__(0.5, scheduled=True)
        self.seen: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(self.progress)
        return super().forward(x)


def test_scheduled_parts_are_told_how_far_the_training_is() -> None:
    drop = Progressive()
    model = nn.Sequential(nn.Linear(1, 2), drop)
    trained(model, Recipe(batch_size=2), torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64), epochs=2)
    assert drop.seen == [0.0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_auxiliary_heads_add_their_loss(mixup: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), Auxiliary(nn.Linear(3, 2)), nn.Linear(3, 2))
    x, y = torch.randn(6, 3), torch.arange(6) % 2
    rng = np.random.default_rng(0)
    part, other = (
        (rng.beta(mixup, mixup), torch.from_numpy(rng.permutation(6))) if mixup else (1.0, torch.arange(6))
    )
    reported: list[float] = []
    order = torch.from_numpy(np.random.default_rng(1).permutation(6))

    class Draws:
        """The order of the epoch, then what mixup draws."""

        def __init__(self) -> None:
            self.orders = [order.numpy(), other.numpy()]

        def permutation(self, n: int) -> Any:
            return self.orders.pop(0)

        def beta(self, a: float, b: float) -> float:
            return float(part)

    with torch.no_grad():
        sx, sy = x[order], y[order]
        hidden = model[0](part * sx + (1 - part) * sx[other])
        main, aux = model[2](hidden), model[1].head(hidden)

        def loss(logits: Tensor) -> Tensor:
            mine, its = (nn.functional.cross_entropy(logits, t, label_smoothing=0.1) for t in (sy, sy[other]))
            return part * mine + (1 - part) * its

        expected = float(loss(main) + 0.4 * loss(aux))
    recipe = Recipe(label_smoothing=0.1, mixup=mixup, batch_size=6)
    fit(model, x, y, recipe, 1, Draws(), lambda step, metrics: reported.append(metrics["loss"]))  # type: ignore[arg-type]
    assert reported == [pytest.approx(expected)]
    assert model[1].head.weight.grad is not None
    copy.deepcopy(model)  # as quantization does it


def test_word_numbers_are_learned_from() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(12, 2))
    x = torch.randint(10, (200, 3))
    y = (x[:, 0] > 4).long()
    trained(placed(model, "cpu"), Recipe(learning_rate=0.02, batch_size=20), x, y, epochs=8)
    assert measure(model, x, y)[0] > 0.95


class Recorder(nn.Module):
    """A linear model that remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 2)
        self.seen: list[list[float]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.flatten().tolist())
        return self.linear(x.flatten(1))


@pytest.mark.parametrize(("n", "batch_size", "sizes"), [(11, 4, [6, 5]), (12, 4, [4, 4, 4]), (3, 64, [3])])
def test_an_epoch_sees_every_example_once(n: int, batch_size: int, sizes: list[int]) -> None:
    model, x = Recorder(), torch.arange(float(n)).reshape(n, 1, 1, 1)
    steps: list[int] = []
    fit(
        model,
        x,
        torch.zeros(n, dtype=torch.int64),
        Recipe(batch_size=batch_size),
        2,
        np.random.default_rng(0),
        lambda step, metrics: steps.append(step),
    )
    assert [len(batch) for batch in model.seen] == sizes * 2
    first, second = model.seen[: len(sizes)], model.seen[len(sizes) :]
    assert sorted(chain(*first)) == sorted(chain(*second)) == x.flatten().tolist()
    assert n < 4 or first != second
    assert steps == [1, 2]


def test_accuracy_and_loss_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0]])
    accuracy, loss = measure(nn.Identity(), logits, torch.tensor([0, 1, 1]))
    assert accuracy == pytest.approx(2 / 3)
    expected = [math.log1p(math.exp(-2)), math.log1p(math.exp(-1)), 2 + math.log1p(math.exp(-2))]
    assert loss == pytest.approx(sum(expected) / 3)
    with pytest.raises(Infeasible, match="nan"):
        measure(nn.Identity(), logits * torch.nan, torch.tensor([0, 1, 1]))


@pytest.mark.parametrize(
    ("epochs", "fidelity", "expected"), [(4, None, 4), (4, 1.0, 4), (4, 0.5, 2), (4, 0.3, 2), (4, 0.01, 1)]
)
def test_fidelity_is_a_part_of_the_epochs(epochs: int, fidelity: float | None, expected: int) -> None:
    of, steps = space(), []
    evaluator = bound(of, epochs=epochs, train_limit=40)
    evaluator.evaluate(Proposal(arch(of), fidelity), lambda step, metrics: steps.append((step, set(metrics))))
    assert steps == [(i + 1, {"loss"}) for i in range(expected)]


def test_epochs_of_the_recipe_count_where_it_gives_them() -> None:
    of, steps = space({"epochs": [1, 3]}), []
    evaluator = bound(of, epochs=None, train_limit=40)
    evaluator.evaluate(Proposal(arch(of, **{"recipe.epochs": 3})), lambda step, metrics: steps.append(step))
    assert steps == [1, 2, 3]


def test_divergence_is_infeasible_with_its_epoch() -> None:
    of = space({"optimizer": "sgd", "learning_rate": 1e25})
    with pytest.raises(Infeasible, match=r"^diverged: loss is (nan|inf) in epoch 1$"):
        measured(of, arch(of))


def test_too_little_memory_is_infeasible() -> None:
    class TooLarge(StagedSpace):
        def build(self, arch: Architecture) -> nn.Module:
            raise torch.OutOfMemoryError("CUDA out of memory")

    of = TooLarge(space().document)
    with pytest.raises(Infeasible, match="does not fit into the memory of cpu"):
        measured(of, arch(of))


def test_nothing_of_the_process_is_changed() -> None:
    of = space()
    threads, state = torch.get_num_threads(), torch.get_rng_state()

    def stop(step: int, metrics: Mapping[str, float]) -> None:
        assert torch.get_num_threads() == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bound(of).evaluate(Proposal(arch(of)), stop)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


class Own(Space):
    """A space that is no document."""

    name, choices = "own", ()

    def build(self, arch: Architecture) -> nn.Module:
        return nn.Linear(64, 10)


def parts() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    y = np.arange(240) % 3
    x = rng.normal(size=(240, 8, 8)) + 3 * y[:, None, None]
    return {"x_train": x[:180], "y_train": y[:180], "x_valid": x[180:], "y_valid": y[180:]}


def test_evaluate_does_not_look_at_the_test_part(tmp_path: Path) -> None:
    of, given = space(classes=3), parts()
    true = npz(tmp_path / "true.npz", **given, x_test=given["x_valid"], y_test=given["y_valid"])
    garbage = npz(
        tmp_path / "garbage.npz",
        **given,
        x_test=1e6 * np.random.default_rng(1).normal(size=(50, 8, 8)),
        y_test=np.random.default_rng(2).integers(0, 3, 50),
    )
    found = measured(of, arch(of, 8), dataset=true)
    assert found["accuracy"] > 0.8
    assert measured(of, arch(of, 8), dataset=garbage) == found
    # the very same training, measured on the test part: here the same examples
    tested = bound(of, dataset=true).test(Proposal(arch(of, 8)))
    assert tested == {"test_accuracy": found["accuracy"], "test_loss": found["loss"]}
    assert bound(of, dataset=garbage).test(Proposal(arch(of, 8)))["test_accuracy"] < found["accuracy"]


def test_train_limit_takes_a_part_of_the_training_examples() -> None:
    of = space()
    few, more = (measured(of, arch(of), train_limit=n) for n in (20, 1000))
    assert few["accuracy"] < more["accuracy"]
    assert measured(of, arch(of), train_limit=10**6) == measured(of, arch(of))


def test_the_data_set_is_settled_when_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = space(classes=3)
    npz(tmp_path / "own.npz", **parts())
    monkeypatch.setenv("NAS_DATA_DIR", str(tmp_path))
    named = bound(of, dataset="own")
    monkeypatch.delenv("NAS_DATA_DIR")
    monkeypatch.chdir(tmp_path)
    local = bound(of, dataset="own.npz")
    monkeypatch.chdir("/")
    assert named.source == local.source == str((tmp_path / "own.npz").resolve())
    assert local.evaluate(Proposal(arch(of)), silent)["accuracy"] > 0.5


def test_what_does_not_fit_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAS_DATA_DIR", raising=False)
    assert faults(space()) == {}
    assert "a space of one's own" in faults(load_space({"family": "python", "object": f"{__name__}:Own"}))["kind"]
    assert faults(space(), dataset="digit") == {
        "dataset": "'digit' is no data set; in the data registry (NAS_DATA_DIR is not set): digits; "
        "a path, from the working directory, must be a folder with train-images-idx3-ubyte[.gz] and "
        "train-labels-idx1-ubyte[.gz], or an .npz file; "
        'did you mean "digits"?'
    }
    assert faults(space(input=[3, 32, 32], classes=7)) == {
        "dataset": "'digits' has examples of shape [1, 8, 8] and 10 classes; the space has input [3, 32, 32] "
        "and 7 classes"
    }
    assert "recipe.epochs" in faults(space({"epochs": [5, 10]}), epochs=3)["epochs"]
    assert faults(space({"epochs": [5, 10]})) == {}
    assert "10 classes" in faults(space(), train_limit=9)["train_limit"]
    assert "batch_size >= 2" in faults(space({"batch_size": [1, 64]}))["kind"]
    broken = parts()
    broken["x_train"][3, 2, 1] = np.nan
    message = faults(space(classes=3), dataset=npz(tmp_path / "nan.npz", **broken))["dataset"]
    assert message == "nan.npz: x_train has values that are not finite"


def test_binding_what_does_not_fit_is_refused() -> None:
    with pytest.raises(SpecError, match="no data set"):
        bound(space(), dataset="nowhere")


@pytest.mark.parametrize("dataset", ["../secret", "/etc/passwd", "own.npz", "a\\b", ".", "digits\n"])
def test_paths_are_refused_over_http(dataset: str) -> None:
    (fault,) = TrainingConfig(dataset=dataset).remote_faults()
    assert fault.path == "dataset"
    assert "only names in the data registry are allowed over HTTP" in fault.message


def test_a_file_over_http_is_told_the_name_that_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npz(tmp_path / "x9.npz", **parts())
    monkeypatch.setenv("NAS_DATA_DIR", str(tmp_path))
    for dataset in ("x9.npz", "data/x9.npz"):
        (fault,) = TrainingConfig(dataset=dataset).remote_faults()
        assert fault.message.endswith('there are: digits, x9; did you mean "x9"?')
    assert TrainingConfig(dataset="x9").remote_faults() == []


def test_names_are_allowed_over_http() -> None:
    assert TrainingConfig(dataset="digits").remote_faults() == []
    assert TrainingConfig(dataset="fashion-mnist").remote_faults() == []


def test_checking_loads_neither_torch_nor_scikit_learn() -> None:
    code = (
        "import sys\n"
        "from search_spaces import load_space\n"
        "from nas.evaluators.training import TrainingConfig\n"
        "config = TrainingConfig(); space = load_space('digits-tiny')\n"
        "assert config.faults(space) == [] and config.bind(space, 0)\n"
        "print([m for m in ('torch', 'sklearn', 'ray', 'pandas') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_fashion_mnist_is_learned_from_a_few_examples(shared_data: Path) -> None:
    source = shared_data / "fashion-mnist"
    if not source.is_dir():
        pytest.skip(f"Fashion-MNIST is not at {source}")
    of = space(input=[1, 28, 28])
    assert faults(of, dataset=str(source)) == {}
    found = measured(of, arch(of, 8), dataset=str(source), train_limit=1000, epochs=2)
    datasets.load.cache_clear()
    assert found["accuracy"] > 0.35  # chance is 0.1
