"""Scores of a network that was never trained, from one batch of examples: one function for each.

All work on networks at initialisation, in evaluation mode but for batch norms, which use the statistics of the
batch: neither dropout nor auxiliary heads take part. Weights are those of convolutions and linear layers that are
learned. Higher scores are meant to be better ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 -- the name that the field knows
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from predictors.threads import one_torch_thread, seeded_torch
from predictors.zero_cost.kinds import COUNTS, Proxy
from predictors.zero_cost.watch import Features, Flow, Patterns

WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)
BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)
NUMERICAL_ZERO = 1e-6
"""Outputs that differ by less, relative to the largest, differ by rounding only."""
JACOBIAN_OFFSET = 1e-5
"""Added to eigenvalues, as in the authors' code."""
ZEN_BATCH, ZEN_REPEATS, ZEN_STEP = 16, 2, 0.01
"""Examples, draws of weights and inputs, and how far inputs are moved."""


class Probe:
    """One network at initialisation and one batch; what several scores need is calculated once."""

    def __init__(self, build: Callable[[], nn.Module], x: Tensor, y: Tensor | None, seed: int) -> None:
        """`x`: examples (n, ...), n >= 2, floats or word numbers; `y`: their classes (n,), where known."""
        self._build, self._seed = build, seed
        self.x, self.y = x, y

    def fresh(self) -> nn.Module:
        """The network with weights drawn by the seed; the same every time."""
        with seeded_torch(self._seed):
            model = self._build().eval()
        for part in model.modules():
            if isinstance(part, BATCH_NORMS):
                part.train()
        return model.to(self.x.device)

    def gaussian(self, like: Tensor, draw: int) -> Tensor:
        """Standard normal entries in the shape of `like`; the same for the same draw."""
        seed = int(np.random.default_rng([self._seed, draw]).integers(2**63))
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(like.shape, generator=generator).to(like)

    @cached_property
    def model(self) -> nn.Module:
        """A network that no score changes."""
        return self.fresh()

    @cached_property
    def _passed(self) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (n, classes), what gradients towards inputs stop at (n, ...), agreement of patterns (n, n)."""
        x = self.x.clone().requires_grad_() if self.x.is_floating_point() else self.x
        watch = Patterns(len(x))
        with watch:
            logits = self.model(x)
        return logits, (x if watch.words is None else watch.words), watch.agreement

    @property
    def agreement(self) -> Tensor:
        """Activation inputs in whose sign two examples agree, shape (n, n)."""
        return self._passed[2]

    @cached_property
    def alive(self) -> bool:
        """Whether the output depends on the input at all."""
        logits = self._passed[0].detach()
        return not bool((logits - logits[0]).abs().max() <= NUMERICAL_ZERO * logits.abs().max())

    @cached_property
    def jacobian(self) -> Tensor:
        """Gradients of the summed logits towards the inputs, shape (n, entries)."""
        logits, entry, _ = self._passed
        (found,) = torch.autograd.grad(logits.sum(), entry, retain_graph=True)
        return found.flatten(1)

    @cached_property
    def gradients(self) -> list[tuple[Tensor, Tensor]]:
        """Weights and gradients of the cross entropy; without those that have no effect on the output."""
        if self.y is None:
            raise ValueError("gradients of the loss need labels")
        return _gradients(F.cross_entropy(self._passed[0], self.y), weights(self.model), keep=True)


def params(probe: Probe) -> float:
    """Learnable entries."""
    return sum(p.numel() for p in probe.model.parameters() if p.requires_grad)


def macs(probe: Probe) -> float:
    """Multiply-accumulates for one example: half of what torch counts."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        probe.fresh().eval()(probe.x[:1])
    return counter.get_total_flops() / 2


def naswot(probe: Probe) -> float:
    """How differently examples activate the network: log determinant of the kernel of their activation patterns.

    Mellor, Turner, Storkey and Crowley, "Neural architecture search without training" (ICML 2021). Theirs are
    networks of rectified linear units; here the sign of every activation's input counts, whatever the activation.

    Raises:
        ValueError: for a network without activations.
    """
    if not bool(probe.agreement.any()):
        raise ValueError("the network has no activations")
    sign, logarithm = torch.linalg.slogdet(probe.agreement)
    return float(logarithm) if sign > 0 else -float("inf")


def jacobian(probe: Probe) -> float:
    """How little the gradients towards different examples are alike: from the eigenvalues of their correlations.

    Mellor et al., the first version of the paper above (arXiv:2006.04647v1, 2020); "jacob_cov" of Abdelfattah et
    al. (2021).
    """
    correlation = torch.corrcoef(probe.jacobian.double())
    shifted = torch.linalg.eigvalsh(correlation).clamp(min=0) + JACOBIAN_OFFSET
    return -float((shifted.log() + 1 / shifted).sum())


def snip(probe: Probe) -> float:
    """How much the loss depends on single weights: the sum of |weight * gradient|.

    Lee, Ajanthan and Torr, "SNIP: single-shot network pruning based on connection sensitivity" (ICLR 2019).
    """
    return sum(float((w * g).abs().sum(dtype=torch.float64)) for w, g in probe.gradients)


def grad_norm(probe: Probe) -> float:
    """The sum over layers of the Euclidean norm of the gradient.

    Abdelfattah, Mehrotra, Dudziak and Lane, "Zero-cost proxies for lightweight NAS" (ICLR 2021).
    """
    return sum(float(g.norm()) for _, g in probe.gradients)


def synflow(probe: Probe) -> float:
    """The logarithm of the sum of |weight * gradient| of a loss that needs no data.

    Tanaka, Kunin, Yamins and Ganguli, "Pruning neural networks without any data by iteratively conserving synaptic
    flow" (NeurIPS 2020): the summed output for an input of ones, all parameters being replaced by their absolute
    values. As in Abdelfattah et al. (2021) norms are left out; so that the flow is not stopped or multiplied with
    itself, tanh is too, and attention is uniform. Products over many layers are calculated in double precision. A
    network of words is given those of the first example.
    """
    model = probe.fresh().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    first = probe.x[:1]
    given = torch.ones_like(first, dtype=torch.float64) if first.is_floating_point() else first
    with Flow():
        flow = model(given).sum()
    found = _gradients(flow, weights(model))
    return float(torch.stack([(w * g).abs().sum() for w, g in found]).sum().log())


def zen(probe: Probe) -> float:
    """How strongly features react to a small change of the input, with what batch norms hide of it put back.

    Lin, Wang, Sun, Chen, Sun, Qian, Li and Jin, "Zen-NAS: a zero-shot NAS for high-performance deep image
    recognition" (ICCV 2021): weights and inputs are Gaussian; the logarithm of the mean absolute change of the map
    before pooling, summed over the map, plus the logarithms of the deviations of batch norms; the mean of some
    draws. The deviations of layer norms are put back too.
    """
    model, draws = probe.fresh(), range(0, 2 * ZEN_REPEATS, 2)
    with torch.no_grad():
        found = [_zen(probe, model, draw) for draw in draws]
        if not all(map(_finite, found)):  # without norms the largest float is soon reached
            found = [_zen(probe, model.double(), draw) for draw in draws]
    return sum(found) / len(found)


def measure(probe: Probe, proxies: Sequence[Proxy]) -> tuple[list[float], str | None]:
    """One score for each proxy, and why the first of those that are not-a-number could not be calculated.

    Minus infinity for a network whose output does not depend on its input, except for counts. Never raises.
    """
    found = []
    with one_torch_thread():
        alive = _tried("network", lambda: float(probe.alive))
        if alive[1] is not None:
            return [float("nan")] * len(proxies), alive[1]
        for proxy in proxies:
            dead = proxy not in COUNTS and not alive[0]
            found.append((-float("inf"), None) if dead else _tried(proxy, partial(FUNCTIONS[proxy], probe)))
    return [score for score, _ in found], next((reason for _, reason in found if reason), None)


FUNCTIONS: Mapping[Proxy, Callable[[Probe], float]] = {
    Proxy.PARAMS: params,
    Proxy.MACS: macs,
    Proxy.NASWOT: naswot,
    Proxy.SYNFLOW: synflow,
    Proxy.SNIP: snip,
    Proxy.GRAD_NORM: grad_norm,
    Proxy.ZEN: zen,
    Proxy.JACOBIAN: jacobian,
}


def weights(model: nn.Module) -> list[Tensor]:
    """Learned weights of convolutions and linear layers."""
    return [m.weight for m in model.modules() if isinstance(m, WEIGHTED) and m.weight.requires_grad]


def _gradients(loss: Tensor, of: list[Tensor], keep: bool = False) -> list[tuple[Tensor, Tensor]]:
    if not of:
        raise ValueError("the network has no weights to learn")
    found = torch.autograd.grad(loss, of, retain_graph=keep, allow_unused=True)
    return [(w.detach(), g) for w, g in zip(of, found, strict=True) if g is not None]


def _zen(probe: Probe, model: nn.Module, draw: int) -> float:
    _make_gaussian(probe, model, draw)
    first = probe.x[:1].expand(ZEN_BATCH, *probe.x.shape[1:])
    first = first.to(next(model.parameters()).dtype) if first.is_floating_point() else first

    def still(like: Tensor) -> Tensor:
        return probe.gaussian(like, draw)

    def moved(like: Tensor) -> Tensor:
        return still(like) + ZEN_STEP * probe.gaussian(like, draw + 1)

    maps = []
    for entry in (still, moved):
        watch, given = Features(entry), entry(first) if first.is_floating_point() else first
        with watch:
            model(given)
        assert watch.last is not None, "the network has no layers"
        maps.append((watch.last, watch.log_scale))
    (here, log_scale), (there, _) = maps
    return float((here - there).abs().double().flatten(1).sum(dim=1).mean().log()) + log_scale


def _make_gaussian(probe: Probe, model: nn.Module, draw: int) -> None:
    """Weights become standard normal, biases 0, norms as they are when fresh."""
    for i, part in enumerate(m for m in model.modules() if isinstance(m, WEIGHTED)):
        part.weight.copy_(probe.gaussian(part.weight, (i + 1) * 2 * ZEN_REPEATS + draw))
        if part.bias is not None:
            part.bias.zero_()


def _tried(name: str, function: Callable[[], float]) -> tuple[float, str | None]:
    """What the function gives, or not-a-number and why: a failure of one network is data."""
    try:
        score = function()
    except Exception as error:
        return float("nan"), f"{name}: {type(error).__name__}: {' '.join(str(error).split())}"
    return (score, None) if _finite(score) or score == -float("inf") else (float("nan"), f"{name}: is {score}")


def _finite(value: float) -> bool:
    return abs(value) < float("inf")
