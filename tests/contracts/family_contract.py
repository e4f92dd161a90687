"""What every declared family keeps, whatever its document says: laws 1 and 7, training, policies, memory.

A family's tests subclass `FamilyContract` and say which documents to draw.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from search_spaces import Architecture, load_space
from search_spaces.declared import DeclaredSpace, ImageSection
from search_spaces.modules import functions, layers
from search_spaces.modules.build import build
from search_spaces.operators import neighbours
from search_spaces.quantization import Bits
from search_spaces.variables import Values


def declared(document: dict[str, Any] | str) -> DeclaredSpace:
    space = load_space(document)
    assert isinstance(space, DeclaredSpace)
    return space


def any_architecture(data: st.DataObject, space: DeclaredSpace) -> Architecture:
    """Any gene tuple of the space, canonical or not."""
    genes = [data.draw(st.integers(0, len(c.values) - 1)) for c in space.choices]
    return space.architectures(np.array([genes], dtype=np.int64).reshape(1, len(genes)))[0]


def inputs(space: DeclaredSpace, batch: int, device: str = "cpu") -> Tensor:
    """Random examples as the space's networks take them: images, or word numbers."""
    document, random = space.document, torch.Generator().manual_seed(1)
    if isinstance(document, ImageSection):
        channels, height, width = document.input
        return torch.randn(batch, channels, height, width, generator=random).to(device)
    text = document.input  # type: ignore[attr-defined]
    return torch.randint(text.vocabulary, (batch, text.length), generator=random).to(device)


def counted_params(model: nn.Module) -> int:
    """All learnable entries."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def counted_macs(model: nn.Module, x: Tensor) -> float:
    """Half of what torch's counter reports for one example."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(x)
    return counter.get_total_flops() / 2


class FamilyContract:
    """The laws; subclasses give `documents`."""

    documents: ClassVar[st.SearchStrategy[dict[str, Any]]]
    rewires: ClassVar[bool] = False
    """Whether the canonical form moves layers about, so that names differ; such a family has tests of its own."""

    @given(data=st.data())
    def test_predicted_cost_is_built_cost(self, data: st.DataObject) -> None:
        space = declared(data.draw(self.documents))
        arch = space.canonical(any_architecture(data, space))
        model, cost = space.build(arch), space.cost(arch)
        assert cost["params"] == counted_params(model)
        assert cost["macs"] == counted_macs(model, inputs(space, 1))

    @given(data=st.data())
    def test_a_population_costs_what_its_networks_cost(self, data: st.DataObject) -> None:
        space = declared(data.draw(self.documents))
        genes = np.random.default_rng(0).integers(0, space.sizes, size=(8, len(space.choices)))
        together = space.costs(genes)
        for i in range(len(genes)):
            for metric, values in space.costs(genes[i : i + 1]).items():
                assert values[0] == together[metric][i], metric

    @given(data=st.data())
    def test_equal_keys_build_equal_networks(self, data: st.DataObject) -> None:
        """Genes as they are and their canonical form write down one network, layer by layer."""
        space = declared(data.draw(self.documents))
        arch = any_architecture(data, space)
        twin = space.canonical(arch)
        assert twin.key == arch.key
        one, other = _seeded(space, arch) if self.rewires else _raw(space, arch), _seeded(space, twin)
        mine, its = one.state_dict(), other.state_dict()
        assert {k: v.shape for k, v in mine.items()} == {k: v.shape for k, v in its.items()}
        x = inputs(space, 2)
        with torch.no_grad():
            assert torch.equal(one(x), other(x))

    @given(data=st.data())
    def test_other_keys_are_other_networks_trainings_or_policies(self, data: st.DataObject) -> None:
        """A change of one gene that leaves network, recipe and policy as they were leaves the key as well."""
        space = declared(data.draw(self.documents))
        arch = space.canonical(any_architecture(data, space))
        around = neighbours(space, np.array(arch.genes, dtype=np.int64))
        for genes in around[data.draw(st.permutations(range(len(around))))[:4]] if len(around) else ():
            other = space.canonical_architectures(genes[None])[0]
            if self.says_all(arch, other):
                assert self.meaning(space, arch) != self.meaning(space, other), (dict(arch), dict(other))

    def says_all(self, one: Architecture, other: Architecture) -> bool:
        """Whether the family promises that these two, one gene apart, differ."""
        return True

    def meaning(self, space: DeclaredSpace, arch: Architecture) -> tuple[object, ...]:
        """The network as it is built, how it is trained, and its bits."""
        model = space.build(arch)
        assert isinstance(model, fx.GraphModule)
        shapes = tuple((k, tuple(v.shape)) for k, v in model.state_dict().items())
        return (model.code, str(model), shapes, space.recipe(arch), tuple(space.policy(arch).items()))

    @given(data=st.data())
    def test_every_network_learns_from_a_batch(self, data: st.DataObject) -> None:
        space = declared(data.draw(self.documents))
        model = space.build(any_architecture(data, space)).train()
        logits = model(inputs(space, 2))
        assert logits.shape == (2, space.document.classes)
        nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
        assert any(p.grad is not None for p in model.parameters())

    @given(data=st.data())
    def test_a_network_is_copied_and_pickled_whole(self, data: st.DataObject) -> None:
        space = declared(data.draw(self.documents))
        model = space.build(any_architecture(data, space)).eval()
        x = inputs(space, 2)
        with torch.no_grad():
            for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
                assert torch.equal(twin(x), model(x))

    @given(data=st.data())
    def test_the_policy_names_exactly_the_weighted_modules(self, data: st.DataObject) -> None:
        space = declared(data.draw(self.documents))
        arch = any_architecture(data, space)
        weighted = nn.Conv2d | nn.Linear | nn.Embedding
        assert set(space.policy(arch)) == {
            n for n, m in space.build(arch).named_modules() if isinstance(m, weighted)
        }

    @given(data=st.data())
    def test_peak_activations_are_those_of_the_built_network(self, data: st.DataObject) -> None:
        space = declared(data.draw(self.documents))
        arch = space.canonical(any_architecture(data, space))
        model = space.build(arch)
        assert isinstance(model, fx.GraphModule)
        assert space.cost(arch)["peak_activation_bytes"] == peak_bytes(model, inputs(space, 1), space.policy(arch))

    @given(data=st.data())
    def test_at_32_bits_the_size_is_that_of_the_folded_weights(self, data: st.DataObject) -> None:
        document = copy.deepcopy(data.draw(self.documents))
        document.pop("quantization", None)
        space = declared(document)
        arch = space.canonical(any_architecture(data, space))
        cost, model = space.cost(arch), space.build(arch)
        norms = sum(m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d))
        frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
        assert (
            4 * (cost["params"] + frozen - 2 * norms) <= cost["model_size_bytes"] <= 4 * (cost["params"] + frozen)
        )


IN_PLACE_MODULES = (nn.BatchNorm2d, nn.Dropout, layers.DropPath, layers.Positions)
PASSES = (
    *(function for function, _ in functions.ACTIVATIONS.values()),
    *(functions.to_map, functions.to_tokens, functions.tokens, "flatten"),
)
SUMS = (torch.add, torch.mul)


def peak_bytes(model: fx.GraphModule, x: Tensor, policy: Mapping[str, Bits]) -> int:
    """The greatest sum of real tensors alive at one moment, by the conventions of `search_spaces.memory`."""
    born: list[int] = []
    last: list[int] = []
    entries: list[int] = []
    bits: list[int] = []
    held: dict[fx.Node, int] = {}

    class Watcher(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if n.op == "output":
                return result
            module = model.get_submodule(str(n.target)) if n.op == "call_module" else None
            if isinstance(module, layers.Auxiliary):
                held[n] = held[n.all_input_nodes[-1]]
                return result
            time = len(held)
            passes = isinstance(module, IN_PLACE_MODULES) or (module is None and n.target in PASSES)
            words = isinstance(module, nn.Embedding)
            wide = policy[str(n.target)].activation if str(n.target) in policy and not words else 32
            for source in n.all_input_nodes:
                last[held[source]] = time
                bits[held[source]] = max(bits[held[source]], 0 if passes else wide)
            if passes or (module is None and n.target in SUMS):
                held[n] = held[n.all_input_nodes[-1]]
            else:
                held[n] = len(born)
                born.append(time)
                last.append(time)
                entries.append(result.numel())
                bits.append(0)
            return result

    with torch.no_grad():
        Watcher(model.eval()).run(x)
    size = [-(-e * (b or 32) // 8) for e, b in zip(entries, bits, strict=True)]
    spans = list(zip(born, last, size, strict=True))
    return max(sum(s for b, e, s in spans if b <= t <= e) for t in range(len(held)))


def _raw(space: DeclaredSpace, arch: Architecture) -> nn.Module:
    """The network of genes as they are, canonical or not."""
    of = Values(space.genes([arch]))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return build(lambda net: space.write(net, of), space._training(arch), "Raw").eval()


def _seeded(space: DeclaredSpace, arch: Architecture) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return space.build(arch).eval()
