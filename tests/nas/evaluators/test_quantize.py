"""Fake quantization against closed forms, bounds that hold for every tensor, and NumPy."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from torch import nn

from nas.evaluators.quantize import (
    activation_codes,
    activation_grid,
    calibrate,
    fake_quantize_activation,
    fake_quantize_weight,
    quantized,
    weight_codes,
)
from search_spaces import load_space
from search_spaces.quantization import Bits

SHAPES = hnp.array_shapes(min_dims=2, max_dims=4, max_side=5)
NUMBERS = st.floats(-1e4, 1e4, width=32).filter(lambda v: v == 0 or abs(v) > 1e-6)
WEIGHTS = hnp.arrays(np.float32, SHAPES, elements=NUMBERS)
BITS = st.sampled_from([2, 4, 8])


def numpy_weight(weight: NDArray[np.float32], bits: int) -> NDArray[np.float64]:
    """A second implementation: channel by channel, in 64 bits."""
    limit = 2 ** (bits - 1) - 1
    out = np.zeros(weight.shape)
    for channel in range(len(weight)):
        largest = float(np.abs(weight[channel]).max())
        if largest > 0:
            scale = largest / limit
            out[channel] = np.clip(np.rint(weight[channel] / scale), -limit, limit) * scale
    return out


@given(WEIGHTS, BITS)
def test_weights_move_by_half_a_step_at_most(weight: NDArray[np.float32], bits: int) -> None:
    w = torch.from_numpy(weight)
    codes, scales = weight_codes(w, bits)
    limit = 2 ** (bits - 1) - 1
    assert codes.dtype == torch.int8
    assert int(codes.abs().max()) <= limit
    assert scales.shape == (len(w), *[1] * (w.ndim - 1))
    error = (codes * scales - w).abs()
    assert (error <= scales / 2 * (1 + 1e-5)).all()


@given(WEIGHTS, BITS)
def test_numpy_quantizes_weights_alike(weight: NDArray[np.float32], bits: int) -> None:
    found = fake_quantize_weight(torch.from_numpy(weight), bits).numpy()
    expected = numpy_weight(weight, bits)
    step = np.abs(weight).reshape(len(weight), -1).max(axis=1) / (2 ** (bits - 1) - 1)
    off = np.abs(found - expected) / np.where(step > 0, step, 1).reshape(-1, *[1] * (weight.ndim - 1))
    # a value half-way between two codes may go either way in 32 bits
    half_way = np.abs(np.abs(weight / np.where(step > 0, step, 1).reshape(-1, *[1] * (weight.ndim - 1))) % 1 - 0.5)
    assert (off[half_way > 1e-4] < 1e-4).all()
    assert (off < 1 + 1e-4).all()


@given(WEIGHTS, BITS)
def test_quantizing_twice_changes_nothing(weight: NDArray[np.float32], bits: int) -> None:
    once = fake_quantize_weight(torch.from_numpy(weight), bits)
    torch.testing.assert_close(fake_quantize_weight(once, bits), once)


@given(WEIGHTS, BITS, st.floats(0.01, 100))
def test_folding_a_positive_or_negative_scale_keeps_codes(
    weight: NDArray[np.float32], bits: int, factor: float
) -> None:
    # powers of two are exact, so no rounding differs
    exact = 2.0 ** round(np.log2(factor))
    w = torch.from_numpy(weight)
    codes, scales = weight_codes(w, bits)
    folded, folded_scales = weight_codes(-exact * w, bits)
    assert torch.equal(folded, -codes)
    alive = w.abs().flatten(1).amax(1) > 0
    torch.testing.assert_close(folded_scales[alive], exact * scales[alive])


def test_weights_by_closed_form() -> None:
    weight = torch.tensor([[-1.0, -0.4, 0.6, 0.2], [7.0, 3.4, -3.6, 0.0], [0.0, 0.0, 0.0, 0.0]])
    codes, scales = weight_codes(weight, 2)
    assert codes.tolist() == [[-1, 0, 1, 0], [1, 0, -1, 0], [0, 0, 0, 0]]
    assert scales.flatten().tolist() == [1.0, 7.0, 1.0]
    assert weight_codes(weight, 4)[0][1].tolist() == [7, 3, -4, 0]
    assert torch.equal(fake_quantize_weight(weight, 32), weight)


@given(hnp.arrays(np.float32, hnp.array_shapes(max_side=6), elements=NUMBERS))
def test_activations_move_by_half_a_step_and_zero_stays_zero(values: NDArray[np.float32]) -> None:
    x = torch.from_numpy(values)
    scale, zero_point = activation_grid(float(x.min()), float(x.max()))
    assert 0 <= zero_point <= 255
    codes = activation_codes(x, scale, zero_point)
    assert codes.dtype == torch.uint8
    found = fake_quantize_activation(x, scale, zero_point)
    assert (found[x == 0] == 0).all()
    # the zero point is rounded too, so the range may move by half a step at its ends
    assert ((found - x).abs() <= scale * (1 + 1e-3)).all()
    inner = (x > float(x.min()) + scale) & (x < float(x.max()) - scale)
    assert ((found - x).abs()[inner] <= scale / 2 * (1 + 1e-3)).all()


def test_activations_by_closed_form() -> None:
    assert activation_grid(0.0, 255.0) == (1.0, 0)
    assert activation_grid(-1.0, 1.55) == (pytest.approx(0.01), 100)
    assert activation_grid(3.0, 5.1) == (pytest.approx(0.02), 0)  # the range includes zero
    assert activation_grid(-5.1, -3.0) == (pytest.approx(0.02), 255)
    assert activation_grid(0.0, 0.0) == (1.0, 0)
    x = torch.tensor([-3.0, 0.4, 0.6, 254.6, 300.0])
    assert activation_codes(x, 1.0, 0).tolist() == [0, 0, 1, 255, 255]
    assert fake_quantize_activation(x, 1.0, 0).tolist() == [0.0, 0.0, 1.0, 255.0, 255.0]


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
    assert torch.equal(copied[3].weight, fake_quantize_weight(model[3].weight, 2))
    assert torch.equal(copied[3].bias, model[3].bias)


def test_calibration_sees_the_inputs_of_modules_over_all_batches() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1))
    nn.init.eye_(model[0].weight)
    model[0].weight.data *= 3
    batches = [torch.tensor([[1.0, -2.0]]), torch.tensor([[4.0, 0.5]])]
    assert calibrate(model, ["0", "1"], batches) == {"0": (-2.0, 4.0), "1": (-6.0, 12.0)}
    assert not model[0]._forward_pre_hooks


def test_error_shrinks_with_bits_on_a_whole_network() -> None:
    space = load_space("digits-tiny")
    arch = space.sample(1, 3)[0]
    torch.manual_seed(0)
    model, x = space.build(arch).eval(), torch.randn(64, 1, 8, 8)
    errors = []
    for bits in (2, 4, 8, 32):
        policy = {name: Bits(bits, 8 if bits < 32 else 32) for name in space.policy(arch)}
        with torch.no_grad():
            errors.append(float((quantized(model, policy, [x])(x) - model(x)).norm() / model(x).norm()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0 < errors[2] < 0.1
