"""Published tables count differently; each way is an option, and gives the published figure."""

from __future__ import annotations

import pytest
from family_contract import counted_params, declared

from search_spaces.costs import Counting
from search_spaces.declared import DeclaredSpace
from search_spaces.load import load_reference


def reference(name: str, **changes: object) -> DeclaredSpace:
    space = load_reference(name, {f"architecture.{k}": v for k, v in changes.items()})
    assert isinstance(space, DeclaredSpace)
    return space


@pytest.mark.parametrize(
    ("multiplier", "without", "full"),
    [
        (1.4, 6_060_840, 6_108_776),
        (1.0, 3_470_760, 3_504_872),
        (0.75, 2_609_800, 2_636_400),
        (0.5, 1_950_136, 1_968_680),
        (0.35, 1_663_000, 1_677_100),
    ],
)
def test_mobilenet_tables_leave_out_batch_norms(multiplier: float, without: int, full: int) -> None:
    space = reference("mobilenetv2", width_multiplier=multiplier)
    arch = space.sample(1, 0)[0]
    assert space.cost(arch)["params"] == pytest.approx(full, abs=50)
    assert space.cost(arch, Counting(normalization=False))["params"] == pytest.approx(without, abs=50)


def test_tables_of_transformers_leave_out_the_products_of_attention() -> None:
    space = reference("deit-tiny-16")
    arch = space.sample(1, 0)[0]
    assert space.cost(arch)["macs"] == 1_253_683_200
    assert space.cost(arch, Counting(attention=False))["macs"] == pytest.approx(1.0749e9, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "full"),
    [("vit-resnas-tiny", 41_498_552), ("vit-resnas-small", 64_605_108), ("vit-resnas-medium", 97_323_672)],
)
def test_the_classifier_of_patches_counts_where_training_is_counted(name: str, full: int) -> None:
    space = reference(name, **{"head.token_classifier": True, "resolution": 224})
    arch, plain = space.sample(1, 0)[0], reference(name, resolution=224)
    assert space.cost(arch, Counting(auxiliary=True))["params"] == full
    assert space.cost(arch) == plain.cost(plain.sample(1, 0)[0])


def test_what_only_training_uses_is_in_the_module_and_in_its_count() -> None:
    document = {
        "family": "transformer",
        "input": [1, 8, 8],
        "classes": 7,
        "architecture": {
            "stem": {"patch": 4},
            "stages": [{"width": 8, "depth": 1, "heads": 2, "head_dim": 4, "mlp": 16}],
            "head": {"token_classifier": True},
        },
    }
    space = declared(document)
    arch = space.sample(1, 0)[0]
    assert counted_params(space.build(arch)) == space.cost(arch, Counting(auxiliary=True))["params"]
    assert space.cost(arch, Counting(auxiliary=True))["macs"] == space.cost(arch)["macs"]
