"""Documents: whatever is written, a space that works or a `SpecError`; and what is read is what was meant."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
from all_documents import ANY
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Fault, SpecError, load_space, presets
from search_spaces.declared import DeclaredSpace
from search_spaces.load import json_schema, preset
from search_spaces.operators import mutate, sample

JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 99)
    | st.integers()
    | st.floats()
    | st.sampled_from([1e308, -1e308, 10**400])
    | st.sampled_from(["serial", "conv", "stage", "none", "ternary", "mean"])
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["min", "max", "step", "levels", "scale", "width"]), inner, max_size=3)
    ),
    max_leaves=6,
)
SOURCES = ANY | st.sampled_from(presets()).map(lambda name: preset(name))


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything inside a document."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [p for key, inner in items for p in [(*path, key), *places(inner, (*path, key))]]


@st.composite
def fuzzed(draw: st.DrawFn) -> dict[str, Any]:
    """A document with one to three things in it replaced, removed, renamed or repeated."""
    document: Any = json.loads(json.dumps(draw(SOURCES)))
    for _ in range(draw(st.integers(1, 3))):
        found = places(document)
        if not found:
            break
        *parents, last = draw(st.sampled_from(found))
        here = document
        for key in parents:
            here = here[key]
        kind = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if kind == "remove":
            del here[last]
        elif kind == "add" and isinstance(here, dict):
            here[draw(st.text(max_size=5))] = draw(JUNK)
        elif kind == "add":
            here.append(copy.deepcopy(here[last]))
        else:
            here[last] = draw(JUNK)
    return dict(document)


def faults(document: dict[str, Any]) -> tuple[Fault, ...] | None:
    """What is wrong with a document; None where it is a space's."""
    try:
        load_space(document)
    except SpecError as error:
        return error.faults
    return None


@pytest.mark.law
@given(fuzzed())
def test_a_fuzzed_document_is_a_spec_error_or_a_space_that_works(document: dict[str, Any]) -> None:
    found = faults(document)
    if found is not None:
        assert found
        assert all("\n" not in f.message and f.message for f in found)
        return
    space = load_space(document)
    rng = np.random.default_rng(0)
    genes = mutate(space, sample(space, 3, rng), rng)
    for values in space.costs(genes).values():
        assert (values >= 0).all()
        assert np.isfinite(values).all()


@pytest.mark.law
@given(SOURCES)
def test_the_document_of_a_space_is_the_space_again(document: dict[str, Any]) -> None:
    space = load_space(document)
    assert isinstance(space, DeclaredSpace)
    again = load_space(json.loads(space.document.model_dump_json(exclude_none=True)))
    assert isinstance(again, DeclaredSpace)
    assert (again.choices, again.identity, again.document) == (space.choices, space.identity, space.document)


def test_the_schema_knows_every_family_and_names_every_key() -> None:
    text = json.dumps(json_schema())
    for family in ("cell", "staged", "transformer", "mlp"):
        assert f'"{family}"' in text
    for key in ("squeeze_excite", "weight_bits", "stochastic_depth", "topology"):
        assert f'"{key}"' in text
