"""What a built network has and does: its learnable entries and multiply-accumulates, without any arithmetic."""

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from search_spaces import Architecture
from search_spaces.declared import DeclaredSpace
from search_spaces.operations import Embedding


def build(space: DeclaredSpace, arch: Architecture) -> nn.Module:
    """The network without memory for its entries."""
    with torch.device("meta"):
        return space.build(arch)


def example(space: DeclaredSpace, arch: Architecture, n: int = 1, device: str = "meta") -> Tensor:
    """Inputs that the network takes, of shape (n, channels, height, width) or, for words, (n, length)."""
    reads = [line for line in space.outline(arch) if any(x.node == -1 for x in line.inputs)]
    x = reads[0].inputs[0]
    if any(isinstance(line.operation, Embedding) for line in reads):
        return torch.zeros(n, x.height, dtype=torch.long, device=device)
    return torch.randn(n, x.channels, x.height, x.width, device=device)


def params(model: nn.Module) -> int:
    """Its learnable entries."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def macs(model: nn.Module, x: Tensor) -> int:
    """Half of what torch's counter reports for one forward pass of a network that is used, not trained."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model.eval()(x)
    return counter.get_total_flops() // 2


def counted(space: DeclaredSpace, arch: Architecture) -> tuple[int, int]:
    """Params and MACs of the built network."""
    model = build(space, arch)
    return params(model), macs(model, example(space, arch))


def trains(model: nn.Module, x: Tensor) -> bool:
    """Whether a forward and a backward pass in training mode give every learnable entry a gradient."""
    model.train()(x).float().square().mean().backward()
    return all(p.grad is not None for p in model.parameters() if p.requires_grad)
