"""The operations of one network gathered into what a reader calls blocks, by the names of their layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from search_spaces.feature import Feature
from search_spaces.operations import (
    Activation,
    Add,
    Attention,
    Concat,
    Conv,
    Depthwise,
    Embedding,
    GlobalPool,
    Joined,
    Linear,
    Multiply,
    Pool,
    Shrink,
    pair,
)
from search_spaces.outline import Line
from search_spaces.quantization import FLOAT_BITS, Bits

MANY = 9
"""Operations of a block beyond which its order is not drawn, but how often it has each."""


ENDS = (Activation, Add, Multiply, Concat, Joined)
"""Operations without names that end what stands before them."""


@dataclass(frozen=True)
class Chip:
    """One operation in a few characters, and the kind that its colour shows."""

    label: str
    kind: str


@dataclass(frozen=True)
class Group:
    """Consecutive operations that belong to one block, or several equal blocks in a row."""

    names: tuple[str, ...]
    chips: tuple[Chip, ...]
    kernels: str
    hidden: str
    """The greatest width inside, and how many times the input's that is."""
    width: int
    size: str
    bits: str
    params: int
    """Of all blocks together."""
    macs: int
    sources: tuple[str, ...]
    """Groups that it reads, other than the one before it; empty for most."""
    steps: tuple[int, ...]
    """How many groups back those are."""

    @property
    def name(self) -> str:
        """``stages.0.1``, or ``stages.0.1-4`` for several."""
        first, last = self.names[0], self.names[-1]
        return first if first == last else f"{first}-{last.rpartition('.')[2]}"


def group_of(layer: str) -> str:
    """The block that a layer belongs to: ``stages.0.1`` of ``stages.0.1.conv``, ``stem`` of ``stem.conv``."""
    words = layer.split(".")
    if words[0] == "stages":
        return ".".join(words[: min(3, len(words) - 1)])
    return ".".join(words[: 2 if len(words) > 2 and words[1].isdigit() else 1])


def groups(lines: Sequence[Line], policy: Mapping[str, Bits]) -> list[Group]:
    """The blocks of a network in their order; equal ones that follow each other are one group."""
    names = _owners(lines)
    policy = policy if any(b.weight != FLOAT_BITS for b in policy.values()) else {}
    owner = dict(enumerate(names))
    order = list(dict.fromkeys(names))
    found: list[Group] = []
    for place, name in enumerate(order):
        own = [line for line, n in zip(lines, names, strict=True) if n == name]
        read = {owner.get(x.node, "input") for line in own for x in line.inputs} - {name}
        before = order[place - 1] if place else "input"
        sources = tuple(sorted(read - {before}, key=["input", *order].index))
        steps = tuple(place - (["input", *order].index(s) - 1) for s in sources)
        group = _group(name, own, policy, sources, steps)
        if found and _continues(found[-1], group):
            found[-1] = _joined(found[-1], group)
        else:
            found.append(group)
    return found


def _owners(lines: Sequence[Line]) -> list[str]:
    """The group of every line. What has no name goes with the layers around it.

    Between two groups, what stands up to the last sum or activation ends the first; pooling and changes of shape
    after it begin the second.
    """
    named = [(i, group_of(line.name)) for i, line in enumerate(lines) if line.name]
    owners = [named[-1][1] if named else "network"] * len(lines)
    before, start = named[0][1] if named else "network", 0
    for i, name in named:
        ends = [j for j in range(start, i) if isinstance(lines[j].operation, ENDS)]
        split = ends[-1] + 1 if ends else start
        owners[start:split] = [before] * (split - start)
        owners[split : i + 1] = [name] * (i + 1 - split)
        before, start = name, i + 1
    return owners


def _group(
    name: str, lines: Sequence[Line], policy: Mapping[str, Bits], sources: tuple[str, ...], steps: tuple[int, ...]
) -> Group:
    output = lines[-1].output
    return Group(
        names=(name,),
        chips=_chips(lines),
        kernels=", ".join(dict.fromkeys(k for line in lines if (k := _kernel(line)) not in ("", "1x1"))),
        hidden=_hidden(lines),
        width=output.channels,
        size=_size(output),
        bits=_bits([policy[line.name] for line in lines if line.name in policy]),
        params=sum(line.params for line in lines if not line.operation.training_only),
        macs=sum(line.macs for line in lines if not line.operation.training_only),
        sources=sources,
        steps=steps,
    )


def _chips(lines: Sequence[Line]) -> tuple[Chip, ...]:
    """The operations in their order, equal ones that follow each other as one."""
    chips = [c for line in lines if (c := chip(line))]
    runs = [(c, len(list(run))) for c, run in groupby(chips)]
    counted = runs if len(runs) <= MANY else list(Counter(chips).items())
    return tuple(Chip(f"{c.label} ·{n}" if n > 1 else c.label, c.kind) for c, n in counted)


def chip(line: Line) -> Chip | None:
    """What stands for an operation; None for those that a reader takes for granted (norms, activations)."""
    operation, out = line.operation, line.output.channels
    last = line.name.rpartition(".")[2]
    match operation:
        case Conv() if last in ("squeeze", "excite"):
            return Chip(f"SE {out}", "gate") if last == "squeeze" else None
        case Conv():
            skip = "skip " if last == "shortcut" else ""
            return Chip(f"{skip}{_kernel(line)}{_stride(operation.stride)} →{out}", "conv")
        case Depthwise():
            return Chip(f"dw {_kernel(line)}{_stride(operation.stride)}", "depthwise")
        case Linear():
            return Chip(f"{'linear' if operation.learned else 'random'} →{out}", "linear")
        case Embedding():
            return Chip(f"embedding →{out}", "linear")
        case Attention():
            return Chip(f"attention {operation.heads}h", "attention")
        case Pool():
            kernel = operation.kernel
            return Chip(f"{operation.kind} {kernel}x{kernel}{_stride(operation.stride)}", "pool")
        case Shrink():
            return Chip(f"{operation.kind}{_stride(operation.by)}", "pool") if operation.by != 1 else None
        case GlobalPool():
            return Chip(f"{operation.kind} of all", "pool") if operation.flat else None
        case Add():
            return Chip("+", "plain")
        case Concat():
            return Chip("concat", "plain")
    return None


def _kernel(line: Line) -> str:
    operation = line.operation
    if not isinstance(operation, Conv | Depthwise):
        return ""
    height, width = pair(operation.kernel)
    return f"{height}x{width}"


def _stride(stride: object) -> str:
    height, width = pair(stride)
    if height == width:
        return f" /{height}" if height != 1 else ""
    return f" /{height}x{width}"


def _hidden(lines: Sequence[Line]) -> str:
    """The width inside a block, where it is not the block's own."""
    source, out = lines[0].inputs[0].channels, lines[-1].output.channels
    layers = [line for line in lines if line.weights and line.output.channels != out]
    inside = [line.output.channels for line in layers if line.name.rpartition(".")[2] not in ("squeeze", "excite")]
    if not inside or len(lines) < 2:
        return ""
    return f"{max(inside)} (x{max(inside) / source:.3g})"


def _size(output: Feature) -> str:
    if output.width != 1:
        return f"{output.height}x{output.width}"
    return "" if output.height == 1 else f"{output.height} tokens"


def _bits(found: Sequence[Bits]) -> str:
    """Bits of weights and activations, of all layers of a group."""
    if not found:
        return ""
    weights = sorted({str(b.weight) for b in found}, key=lambda w: (len(w), w))
    activations = sorted({b.activation for b in found if b.weight != FLOAT_BITS})
    text = f"w{'|'.join(weights)}" + (f" a{'|'.join(map(str, activations))}" if activations else "")
    return text + (" asym" if any(b.scheme == "asymmetric" and b.weight != FLOAT_BITS for b in found) else "")


def _continues(group: Group, after: Group) -> bool:
    """Whether a block is as the ones before it in the same stage."""
    if group.names[-1].rpartition(".")[0] != after.name.rpartition(".")[0] or "." not in after.name:
        return False
    count = len(group.names)
    alike = ("chips", "kernels", "hidden", "width", "size", "bits")
    if any(getattr(group, a) != getattr(after, a) for a in alike):
        return False
    costs = (group.params, group.macs) == (after.params * count, after.macs * count)
    return costs and (group.sources == after.sources or group.steps == after.steps)


def _joined(group: Group, after: Group) -> Group:
    return Group(
        **{
            **vars(group),
            "names": (*group.names, *after.names),
            "params": group.params + after.params,
            "macs": group.macs + after.macs,
        }
    )
