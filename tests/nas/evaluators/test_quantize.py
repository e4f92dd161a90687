"""Fake quantization against closed forms, bounds that hold for every tensor, NumPy, and bytes really packed."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mlp_documents import MLPS
from numpy.typing import NDArray
from space_documents import DOCUMENTS
from torch import Tensor, fx, nn

from nas.evaluators.infeasible import Infeasible
from nas.evaluators.observers import Averages, Extremes, LeastError, Percentiles
from nas.evaluators.quantize import (
    Grid,
    calibrate,
    fake_quantize_weight,
    folded,
    quantized,
    read_quantized,
    sqnr,
)
from search_spaces import load_space
from search_spaces.declared import DeclaredSpace, ImageSection
from search_spaces.quantization import Bits

SHAPES = hnp.array_shapes(min_dims=2, max_dims=4, max_side=5)
NUMBERS = st.floats(-1e4, 1e4, width=32).filter(lambda v: v == 0 or abs(v) > 1e-6)
WEIGHTS = hnp.arrays(np.float32, SHAPES, elements=NUMBERS)
DEPTHS = [2, 3, 4, 8, 16]
SYMMETRIC = st.sampled_from([Bits(b, 32) for b in DEPTHS])
ASYMMETRIC = st.sampled_from([Bits(b, 32, "asymmetric") for b in DEPTHS])
BITS = SYMMETRIC | ASYMMETRIC | st.just(Bits("ternary", 32))


def simulated(model: nn.Module, policy: Mapping[str, Bits], batches: Sequence[torch.Tensor]) -> nn.Module:
    return quantized(model, policy, batches).simulated()


def by_channel(values: NDArray[np.float64], like: NDArray[np.float32]) -> NDArray[np.float64]:
    """One value an output channel, ready to be combined with the weight."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def numpy_weight(weight: NDArray[np.float32], bits: Bits) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A second implementation, channel by channel in 64 bits: the quantized weight, and each channel's step."""
    out, steps = np.zeros(weight.shape), np.zeros(len(weight))
    for channel, w in enumerate(weight.astype(np.float64)):
        if not w.any():
            continue
        if bits.weight == "ternary":
            large = np.abs(w) > 0.7 * np.abs(w).mean()
            steps[channel] = np.abs(w[large]).mean()
            out[channel] = np.sign(w) * large * steps[channel]
        elif bits.scheme == "asymmetric":
            top = 2 ** int(bits.weight) - 1
            step = steps[channel] = (max(w.max(), 0) - min(w.min(), 0)) / top
            zero = np.rint(-min(w.min(), 0) / step)
            out[channel] = (np.clip(np.rint(w / step) + zero, 0, top) - zero) * step
        else:
            limit = 2 ** (int(bits.weight) - 1) - 1
            step = steps[channel] = np.abs(w).max() / limit
            out[channel] = np.clip(np.rint(w / step), -limit, limit) * step
    return out, steps


@dataclass(frozen=True, eq=False)
class Codes:
    """What a scheme encodes, as tensors."""

    codes: Tensor
    scales: Tensor
    zeros: Tensor

    def weight(self) -> Tensor:
        return (self.codes - self.zeros) * self.scales


def weight_codes(weight: Tensor, bits: Bits) -> Codes:
    found = bits.stored.encode(weight.numpy())
    codes = Codes(*(torch.from_numpy(a) for a in (found.codes, found.scales, found.zeros)))
    assert torch.equal(codes.weight(), torch.from_numpy(bits.stored.decode(found)))
    return codes


@given(WEIGHTS, SYMMETRIC)
def test_symmetric_weights_move_by_half_a_step_at_most(weight: NDArray[np.float32], bits: Bits) -> None:
    w = torch.from_numpy(weight)
    found, limit = weight_codes(w, bits), 2 ** (int(bits.weight) - 1) - 1
    assert int(found.codes.abs().max()) <= limit
    assert found.scales.shape == found.zeros.shape == (len(w), *[1] * (w.ndim - 1))
    assert not found.zeros.any()
    error = (found.weight() - w).abs()
    assert (error <= found.scales * (0.5 + limit * 1e-6)).all()


@given(WEIGHTS, ASYMMETRIC)
def test_asymmetric_weights_use_the_whole_range_and_keep_zero(weight: NDArray[np.float32], bits: Bits) -> None:
    w = torch.from_numpy(weight)
    found, top = weight_codes(w, bits), 2 ** int(bits.weight) - 1
    assert 0 <= int(found.codes.min()) <= int(found.codes.max()) <= top
    assert 0 <= int(found.zeros.min()) <= int(found.zeros.max()) <= top
    assert (found.weight()[w == 0] == 0).all()
    # the zero point is rounded too, so the range may move by half a step at its ends
    assert ((found.weight() - w).abs() <= found.scales * (1 + top * 1e-6)).all()
    one_sided = torch.where(w > 0, w, -w)
    symmetric = weight_codes(one_sided, Bits(bits.weight, 32))
    assert (weight_codes(one_sided, bits).scales <= symmetric.scales).all()


@given(WEIGHTS)
def test_ternary_weights_are_the_best_scale_of_their_signs(weight: NDArray[np.float32]) -> None:
    w = torch.from_numpy(weight)
    found = weight_codes(w, Bits("ternary", 32))
    assert set(found.codes.unique().tolist()) <= {-1, 0, 1}
    assert (found.codes.sign() * w.sign() >= 0).all()
    inner = tuple(range(1, w.ndim))

    def error(scales: Tensor) -> Tensor:
        return (w - found.codes * scales).double().square().sum(inner)

    best = error(found.scales)
    for factor in (0.9, 1.1):  # least squares: for these codes no other scale is nearer
        assert (best <= error(found.scales * factor) * (1 + 1e-5)).all()


@given(WEIGHTS, BITS)
def test_numpy_quantizes_weights_alike(weight: NDArray[np.float32], bits: Bits) -> None:
    found = fake_quantize_weight(torch.from_numpy(weight), bits).numpy()
    expected, steps = numpy_weight(weight, bits)
    at = np.abs(weight) / by_channel(np.where(steps > 0, steps, 1), weight)
    off = np.abs(found - expected) / by_channel(np.where(steps > 0, steps, 1), weight)
    if bits.weight == "ternary":
        mean = np.abs(weight).reshape(len(weight), -1).mean(axis=1, dtype=np.float64)
        near = np.abs(np.abs(weight) - by_channel(0.7 * mean, weight)) < 1e-5 * by_channel(mean, weight)
        assert near.any() or (off < 1e-4).all()
        return
    tolerance = 1e-4 + 1e-6 * 2 ** int(bits.weight)
    # a value half-way between two codes may go either way in 32 bits, and so may a zero point
    half_way = np.abs(at % 1 - 0.5)
    if bits.scheme == "symmetric":
        assert (off[half_way > tolerance] < tolerance).all()
    assert (off < 1 + tolerance).all()


@given(WEIGHTS, BITS)
def test_quantizing_twice_changes_nothing(weight: NDArray[np.float32], bits: Bits) -> None:
    once = fake_quantize_weight(torch.from_numpy(weight), bits)
    twice = fake_quantize_weight(once, bits)
    if bits.weight != "ternary":
        torch.testing.assert_close(twice, once, rtol=1e-4, atol=1e-4 * float(once.abs().max()))
        return
    # where few weights are left, those that were small make the mean small: they all stay
    assert torch.equal(twice.sign(), once.sign())
    torch.testing.assert_close(twice, once)


@given(WEIGHTS, BITS, st.integers(-6, 6))
def test_folding_a_positive_or_negative_scale_keeps_what_is_measured(
    weight: NDArray[np.float32], bits: Bits, exponent: int
) -> None:
    w, exact = torch.from_numpy(weight), 2.0**exponent  # powers of two are exact, so no rounding differs
    torch.testing.assert_close(fake_quantize_weight(exact * w, bits), exact * fake_quantize_weight(w, bits))
    if bits.scheme == "symmetric":
        torch.testing.assert_close(fake_quantize_weight(-w, bits), -fake_quantize_weight(w, bits))


def test_weights_by_closed_form() -> None:
    weight = torch.tensor([[-1.0, -0.4, 0.6, 0.2], [7.0, 3.4, -3.6, 0.0], [0.0, 0.0, 0.0, 0.0]])
    two = weight_codes(weight, Bits(2, 32))
    assert two.codes.tolist() == [[-1, 0, 1, 0], [1, 0, -1, 0], [0, 0, 0, 0]]
    assert two.scales.flatten().tolist() == [1.0, 7.0, 1.0]
    assert weight_codes(weight, Bits(4, 32)).codes[1].tolist() == [7, 3, -4, 0]
    affine = weight_codes(torch.tensor([[-1.0, 0.0, 1.1, 2.0], [3.0, 6.0, 9.0, 0.2]]), Bits(2, 32, "asymmetric"))
    assert affine.scales.flatten().tolist() == [1.0, 3.0]
    assert affine.zeros.flatten().tolist() == [1, 0]
    assert affine.codes.tolist() == [[0, 1, 2, 3], [1, 2, 3, 0]]
    assert torch.equal(fake_quantize_weight(weight, Bits(32, 32)), weight)


def test_ternary_weights_by_closed_form() -> None:
    weight = torch.tensor([[1.0, -3.0, 5.0, 0.0, -1.0], [0.0, 0.0, 0.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0, -2.0]])
    found = weight_codes(weight, Bits("ternary", 8))  # means 2, 0, 2: thresholds 1.4, 0, 1.4
    assert found.codes.tolist() == [[0, -1, 1, 0, 0], [0] * 5, [1, 1, 1, 1, -1]]
    assert found.scales.flatten().tolist() == [4.0, 1.0, 2.0]


ACTIVATION_BITS = [4, 8, 16]


@given(hnp.arrays(np.float32, hnp.array_shapes(max_side=6), elements=NUMBERS), st.sampled_from(ACTIVATION_BITS))
def test_activations_move_by_half_a_step_and_zero_stays_zero(values: NDArray[np.float32], bits: int) -> None:
    x = torch.from_numpy(values)
    grid = Grid.spanning(float(x.min()), float(x.max()), bits)
    top = 2**bits - 1
    assert 0 <= grid.zero <= top
    assert 0 <= int(grid.codes(x).min()) <= int(grid.codes(x).max()) <= top
    found = grid.fake(x)
    assert (found[x == 0] == 0).all()
    # the zero point is rounded too, so the range may move by half a step at its ends
    assert ((found - x).abs() <= grid.scale * (1 + 1e-3 + top * 1e-6)).all()
    inner = (x > float(x.min()) + grid.scale) & (x < float(x.max()) - grid.scale)
    assert ((found - x).abs()[inner] <= grid.scale * (0.5 + 1e-3 + top * 1e-6)).all()


def test_activations_by_closed_form() -> None:
    assert Grid.spanning(0.0, 255.0, 8) == Grid(1.0, 0, 8)
    assert Grid.spanning(-1.0, 1.55, 8) == Grid(pytest.approx(0.01), 100, 8)
    assert Grid.spanning(3.0, 5.1, 8) == Grid(pytest.approx(0.02), 0, 8)  # the range includes zero
    assert Grid.spanning(-5.1, -3.0, 8) == Grid(pytest.approx(0.02), 255, 8)
    assert Grid.spanning(0.0, 0.0, 8) == Grid(1.0, 0, 8)
    assert Grid.spanning(-5.0, 10.0, 4) == Grid(1.0, 5, 4)
    assert Grid.spanning(0.0, 65535.0, 16) == Grid(1.0, 0, 16)
    x = torch.tensor([-3.0, 0.4, 0.6, 254.6, 300.0])
    assert Grid(1.0, 0, 8).codes(x).tolist() == [0, 0, 1, 255, 255]
    assert Grid(1.0, 0, 8).fake(x).tolist() == [0.0, 0.0, 1.0, 255.0, 255.0]
    assert Grid(1.0, 5, 4).fake(x).tolist() == [-3.0, 0.0, 1.0, 10.0, 10.0]


def file_size(model: nn.Module, policy: dict[str, Bits]) -> int:
    """Bytes of a network packed by its policy, the batch norms folded into the convolutions before them."""
    total = 0
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            before = model.get_submodule(name.removesuffix("_norm"))
            total += 4 * module.num_features * (before.bias is None)
            continue
        for key, value in module.named_parameters(recurse=False):
            bits = policy[name] if key == "weight" and name in policy else Bits(32, 32)
            weight = value.detach().numpy()
            if isinstance(module, nn.Embedding):
                weight = weight.T
            total += 4 * value.numel() if key != "weight" else len(bits.stored.pack(bits.stored.encode(weight)))
    return total


@pytest.mark.law
@given(st.data())
def test_packed_bytes_are_the_predicted_model_size(data: st.DataObject) -> None:
    space = load_space(data.draw(DOCUMENTS | MLPS))
    assert isinstance(space, DeclaredSpace)
    (arch,) = space.sample(1, data.draw(st.integers(0, 99)))
    assert space.cost(arch)["model_size_bytes"] == file_size(space.build(arch), space.policy(arch))


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).eval()


def test_a_linear_layer_computes_as_its_integers_would() -> None:
    model = nn.Sequential(nn.Linear(6, 3))
    x = torch.randn(50, 6)
    found = simulated(model, {"0": Bits(4, 8)}, [x])(x)
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = (high - low) / 255
    zero = round(-low / scale)
    inputs = np.clip(np.rint(x.double().numpy() / scale) + zero, 0, 255).astype(np.int64) - zero
    weight = model[0].weight.detach().double().numpy()
    scales = np.abs(weight).max(axis=1) / 7
    codes = np.rint(weight / scales[:, None]).astype(np.int64)
    expected = (inputs @ codes.T) * scale * scales + model[0].bias.detach().double().numpy()
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-5)


def test_32_bits_change_nothing() -> None:
    model, x = small(), torch.randn(5, 1, 4, 4)
    policy = {"0": Bits(32, 32), "3": Bits(32, 32)}
    assert torch.equal(simulated(model, policy, [x])(x), model(x))


def test_the_model_itself_is_left_alone() -> None:
    model, x = small(), torch.randn(5, 1, 4, 4)
    before = copy.deepcopy(model.state_dict())
    expected = model(x)
    copied = simulated(model, {"0": Bits(2, 8), "3": Bits(4, 8)}, [x])
    assert not torch.equal(copied(x), expected)
    assert torch.equal(model(x), expected)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_only_modules_of_the_policy_are_touched() -> None:
    model, x = small(), torch.randn(5, 1, 4, 4)
    copied = simulated(model, {"0": Bits(32, 32), "3": Bits(2, 32)}, [x])
    assert torch.equal(copied[0].weight, model[0].weight)
    assert torch.equal(copied[3].weight, fake_quantize_weight(model[3].weight, Bits(2, 32)))
    assert torch.equal(copied[3].bias, model[3].bias)


def test_calibration_sees_the_inputs_of_modules_over_all_batches() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1))
    nn.init.eye_(model[0].weight)
    model[0].weight.data *= 3
    batches = [torch.tensor([[1.0, -2.0]]), torch.tensor([[4.0, 0.5]])]
    seen = {"0": Extremes(), "1": Extremes()}
    calibrate(model, seen, batches)
    assert seen == {"0": Extremes(-2.0, 4.0), "1": Extremes(-6.0, 12.0)}
    assert not model[0]._forward_pre_hooks


@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
def test_error_shrinks_with_bits_on_a_whole_network(scheme: str) -> None:
    space = load_space("digits-tiny")
    arch = space.sample(1, 3)[0]
    torch.manual_seed(0)
    model, x = space.build(arch).eval(), torch.randn(64, 1, 8, 8)
    errors = []
    for bits in (2, 4, 8, 16, 32):
        policy = {name: Bits(bits, {2: 8, 4: 8}.get(bits, bits), scheme) for name in space.policy(arch)}
        with torch.no_grad():
            errors.append(float((simulated(model, policy, [x])(x) - model(x)).norm() / model(x).norm()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0 < errors[3] < 1e-3 < errors[2] < 0.1


def test_a_table_is_quantized_by_its_columns_and_reads_word_numbers() -> None:
    model = nn.Sequential(nn.Embedding(7, 3), nn.Linear(3, 2)).eval()
    words = torch.tensor([[0, 6, 2], [3, 3, 1]])
    table = simulated(model, {"0": Bits(4, 8), "1": Bits(32, 32)}, [words])[0]
    expected = weight_codes(model[0].weight.detach().T, Bits(4, 8))
    assert expected.scales.shape == (3, 1)
    assert torch.equal(table.weight, expected.weight().T)
    assert table(words).shape == (2, 3, 3)


def test_activations_that_are_not_finite_are_infeasible() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    nn.init.constant_(model[0].weight, 3e38)
    with pytest.raises(Infeasible, match=r"activations before 1 are from -?inf to -?inf"):
        simulated(model, {"1": Bits(8, 8)}, [torch.ones(1, 2)])


def no_error(x: Tensor, span: tuple[float, float]) -> float:
    return 0.0


def test_moving_averages_start_at_the_first_batch_and_hold_zero() -> None:
    seen = Averages()
    seen.observe(torch.zeros(1), -1.0, 10.0)
    assert seen.range(no_error) == (-1.0, 10.0)
    seen.observe(torch.zeros(1), -2.0, 20.0)
    assert seen.range(no_error) == (pytest.approx(-1.1), pytest.approx(11.0))
    above = Averages()
    above.observe(torch.zeros(1), 2.0, 3.0)
    assert above.range(no_error) == (0.0, 3.0)


def test_percentiles_leave_out_one_of_ten_thousand() -> None:
    x = torch.arange(-10000.0, 10000.0)[torch.randperm(20000)]
    seen = Percentiles()
    for batch in x.split(7000):
        seen.observe(batch, float(batch.min()), float(batch.max()))
    assert seen.range(no_error) == (-9999.0, 9998.0)
    few = Percentiles()
    few.observe(torch.arange(1.0, 11.0), 1.0, 10.0)
    assert few.range(no_error) == (0.0, 10.0)


@pytest.mark.parametrize("bits", [4, 8])
def test_the_range_of_least_error_is_better_than_the_extremes_where_one_activation_is_far_out(bits: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(10000)
    x[0] = 40.0
    best, extremes = LeastError(), Extremes()
    for seen in (best, extremes):
        seen.observe(x, float(x.min()), 40.0)

    def error(grid: Grid) -> float:
        return float((grid.fake(x) - x).square().sum())

    found = Grid.observed(best, bits)
    assert error(found) < error(Grid.observed(extremes, bits))
    if bits == 4:
        assert found.scale * 15 < 20
    near = LeastError()  # nothing is far out: at 8 bits nothing is gained by leaving out much
    near.observe(torch.linspace(-1, 1, 1001), -1.0, 1.0)
    low, high = near.range(lambda sample, span: Grid.spanning(*span, bits).fake(sample).sub(sample).norm().item())
    assert low < -0.9
    assert high > 0.9


def test_the_policy_names_the_observer() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 4)), torch.randn(5000, 4)
    x[0] = 50.0
    expected = model(x)

    def error(observer: str) -> float:
        found = simulated(model, {"0": Bits(16, 4, observer=observer)}, x.split(500))(x)
        return (found - expected)[1:].detach().norm().item()

    assert error("mse") < error("min_max")
    assert error("ema") < error("min_max")
    assert error("percentile") < error("min_max")


@pytest.mark.parametrize("batches", [[], [torch.empty(0, 2)]])
def test_calibration_needs_examples(batches: list[Tensor]) -> None:
    with pytest.raises(ValueError, match="at least one example"):
        simulated(nn.Sequential(nn.Linear(2, 2)), {"0": Bits(8, 8)}, batches)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_examples_to_calibrate_with_are_finite(value: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        simulated(nn.Sequential(nn.Linear(2, 2)), {"0": Bits(8, 8)}, [torch.tensor([[1.0, value]])])


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(4, 3)], r"the network cannot read calibration examples of shape \[3\]: .+"),
        ([(4, 2), (4, 3)], r"calibration examples have several shapes: \[2\], \[3\]$"),
    ],
)
def test_examples_of_another_shape_are_told(shapes: list[tuple[int, ...]], message: str) -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=message):
        simulated(model, {"0": Bits(8, 8)}, [torch.zeros(shape) for shape in shapes])
    assert not model[0]._forward_pre_hooks


@given(
    hnp.arrays(
        np.float32, hnp.array_shapes(min_dims=1, max_dims=4, max_side=6), elements=st.floats(-9, 9, width=32)
    ),
    st.sampled_from([4, 8, 16]),
    st.booleans(),
)
def test_rounding_is_the_same_whole_in_pieces_with_gradients_and_by_codes(
    values: NDArray[np.float32], bits: int, last: bool
) -> None:
    x = torch.from_numpy(values)
    if last and x.ndim == 4:
        x = x.to(memory_format=torch.channels_last)
    grid = Grid.spanning(-3.0, 5.0, bits)
    expected = (grid.codes(x) - grid.zero) * torch.tensor(grid.scale)
    with pytest.MonkeyPatch.context() as patch:
        for at_once in (1, 7, 2**16):
            patch.setattr("nas.evaluators.quantize.AT_ONCE", at_once)
            assert torch.equal(grid.fake(x), expected)
    assert torch.equal(grid.fake(x.clone().requires_grad_()), expected)


def test_gradients_go_straight_through_inside_the_range_and_stop_outside() -> None:
    x = torch.tensor([-3.0, -1.0, 0.3, 14.0, 99.0], requires_grad=True)
    grid = Grid(1.0, 1, 4)
    found = grid.fake(x)
    assert found.tolist() == [-1.0, -1.0, 0.0, 14.0, 14.0]
    torch.autograd.backward((found * torch.arange(1.0, 6.0)).sum())
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 2.0, 3.0, 4.0, 0.0]
    weight = torch.randn(3, 4, requires_grad=True)
    torch.autograd.backward(fake_quantize_weight(weight, Bits(2, 32)).sum())
    assert weight.grad is not None
    assert weight.grad.tolist() == [[1.0] * 4] * 3


def trained_norms(model: nn.Module) -> nn.Module:
    """Norms that do something, some scales of them negative."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(value)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


@pytest.mark.parametrize("name", ["digits-tiny", "mobilenetv2", "nas-bench-201", "fbnetv3"])
def test_folding_changes_no_output(name: str) -> None:
    space = load_space(name)
    assert isinstance(space, DeclaredSpace)
    assert isinstance(space.document, ImageSection)
    (arch,) = space.sample(1, 0)
    torch.manual_seed(0)
    model = trained_norms(space.build(arch)).double()
    assert isinstance(model, fx.GraphModule)
    x = torch.randn(2, space.document.input[0], 32, 32).double()
    found = folded(model)
    with torch.no_grad():
        torch.testing.assert_close(found(x), model(x))

    def norms(of: nn.Module) -> int:
        return sum(isinstance(m, nn.BatchNorm2d) for m in of.modules())

    assert norms(found) < norms(model)
    if name == "digits-tiny":
        assert norms(found) == 0


def test_a_scale_for_the_whole_weight_is_that_of_the_folded_weight() -> None:
    space = load_space("digits-tiny")
    assert isinstance(space, DeclaredSpace)
    (arch,) = space.sample(1, 0)
    torch.manual_seed(0)
    model, x = trained_norms(space.build(arch)), torch.randn(4, 1, 8, 8)
    bits = Bits(4, 32, granularity="tensor")
    found = simulated(model, dict.fromkeys(space.policy(arch), bits), [x])
    assert isinstance(model, fx.GraphModule)
    for name in space.policy(arch):
        weight = folded(model).get_submodule(name).weight
        assert torch.equal(found.get_submodule(name).weight, fake_quantize_weight(weight, bits))
        assert len(found.get_submodule(name).weight.unique()) <= 15


def test_signal_to_noise_by_closed_form() -> None:
    model = nn.Sequential(nn.Linear(3, 1), nn.Embedding(2, 1))
    model[0].weight.data = torch.tensor([[1.0, 0.2, -0.2]])
    found = sqnr(model, {"0": Bits(2, 8), "1": Bits(32, 32)})
    assert found == {"0": pytest.approx(10 * math.log10(1.08 / 0.08)), "1": math.inf}
    assert sqnr(model, {"0": Bits(4, 8)})["0"] > found["0"]


@settings(max_examples=25, deadline=None)
@given(document=DOCUMENTS | MLPS, seed=st.integers(0, 99))
def test_activations_are_overwritten_only_where_they_are_read_alone(document: dict[str, Any], seed: int) -> None:
    space = load_space(document)
    assert isinstance(space, DeclaredSpace)
    (arch,) = space.sample(1, seed)
    model, x = trained_norms(space.build(arch)), torch.randn(4, *document["input"])
    found = quantized(model, {name: Bits(8, 8) for name in space.policy(arch)}, [x])
    apart, before = copy.deepcopy(found.model), x.clone()
    for name, bits in found.policy.items():
        weight = apart.get_submodule(name).weight
        weight.data = fake_quantize_weight(weight.data, bits)
    for name, grid in found.grids.items():
        read_quantized(apart.get_submodule(name), grid)
    with torch.no_grad():
        assert torch.equal(found.simulated()(x), apart(x))
    assert torch.equal(x, before)
