"""Fake quantization against closed forms, bounds that hold for every tensor, NumPy, and bytes really packed."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mlp_documents import MLPS
from numpy.typing import NDArray
from space_documents import DOCUMENTS
from torch import Tensor, nn

from nas.evaluators.infeasible import Infeasible
from nas.evaluators.quantize import Codes, Grid, calibrate, fake_quantize_weight, quantized, weight_codes
from search_spaces import load_space
from search_spaces.declared import DeclaredSpace
from search_spaces.quantization import Bits

SHAPES = hnp.array_shapes(min_dims=2, max_dims=4, max_side=5)
NUMBERS = st.floats(-1e4, 1e4, width=32).filter(lambda v: v == 0 or abs(v) > 1e-6)
WEIGHTS = hnp.arrays(np.float32, SHAPES, elements=NUMBERS)
DEPTHS = [2, 4, 8, 16]
SYMMETRIC = st.sampled_from([Bits(b, 32) for b in DEPTHS])
ASYMMETRIC = st.sampled_from([Bits(b, 32, "asymmetric") for b in DEPTHS])
BITS = SYMMETRIC | ASYMMETRIC | st.just(Bits("ternary", 32))


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


def packed(found: Codes, bits: Bits) -> list[bytes]:
    """What a file would hold of a weight: its codes without a gap, its scales, and its zero points."""
    scales, codes = found.scales.numpy().astype("<f4").tobytes(), found.codes.numpy().ravel()
    if bits.weight == "ternary":
        digits = np.pad(codes + 1, (0, -len(codes) % 5)).reshape(-1, 5)
        return [(digits @ 3 ** np.arange(5)).astype(np.uint8).tobytes(), scales]
    depth = int(bits.weight)
    offset = codes if bits.scheme == "asymmetric" else codes + 2 ** (depth - 1)
    stream = (offset[:, None] >> np.arange(depth)) & 1
    assert (stream @ 2 ** np.arange(depth) == offset).all(), "a code needs more bits than it has"
    body = np.packbits(stream.astype(np.uint8)).tobytes()
    if bits.scheme == "symmetric":
        return [body, scales]
    return [body, scales, found.zeros.numpy().astype("<u2" if depth == 16 else "u1").tobytes()]


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
            if bits.weight == 32:
                total += 4 * value.numel()
            else:
                total += sum(map(len, packed(weight_codes(value.detach(), bits), bits)))
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
    found = quantized(model, {"0": Bits(4, 8)}, [x])(x)
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
    assert torch.equal(quantized(model, policy, [x])(x), model(x))


def test_the_model_itself_is_left_alone() -> None:
    model, x = small(), torch.randn(5, 1, 4, 4)
    before = copy.deepcopy(model.state_dict())
    expected = model(x)
    copied = quantized(model, {"0": Bits(2, 8), "3": Bits(4, 8)}, [x])
    assert not torch.equal(copied(x), expected)
    assert torch.equal(model(x), expected)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_only_modules_of_the_policy_are_touched() -> None:
    model, x = small(), torch.randn(5, 1, 4, 4)
    copied = quantized(model, {"0": Bits(32, 32), "3": Bits(2, 32)}, [x])
    assert torch.equal(copied[0].weight, model[0].weight)
    assert torch.equal(copied[3].weight, fake_quantize_weight(model[3].weight, Bits(2, 32)))
    assert torch.equal(copied[3].bias, model[3].bias)


def test_calibration_sees_the_inputs_of_modules_over_all_batches() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1))
    nn.init.eye_(model[0].weight)
    model[0].weight.data *= 3
    batches = [torch.tensor([[1.0, -2.0]]), torch.tensor([[4.0, 0.5]])]
    assert calibrate(model, ["0", "1"], batches) == {"0": (-2.0, 4.0), "1": (-6.0, 12.0)}
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
            errors.append(float((quantized(model, policy, [x])(x) - model(x)).norm() / model(x).norm()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0 < errors[3] < 1e-3 < errors[2] < 0.1


def test_a_table_is_quantized_by_its_columns_and_reads_word_numbers() -> None:
    model = nn.Sequential(nn.Embedding(7, 3), nn.Linear(3, 2)).eval()
    words = torch.tensor([[0, 6, 2], [3, 3, 1]])
    table = quantized(model, {"0": Bits(4, 8), "1": Bits(32, 32)}, [words])[0]
    expected = weight_codes(model[0].weight.detach().T, Bits(4, 8))
    assert expected.scales.shape == (3, 1)
    assert torch.equal(table.weight, expected.weight().T)
    assert table(words).shape == (2, 3, 3)


def test_activations_that_are_not_finite_are_infeasible() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    nn.init.constant_(model[0].weight, 3e38)
    with pytest.raises(Infeasible, match=r"activations before 1 are from -?inf to -?inf"):
        quantized(model, {"1": Bits(8, 8)}, [torch.ones(1, 2)])
