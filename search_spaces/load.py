"""From a name, a file or a mapping to a space."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import yaml
from pydantic import Field, RootModel, TypeAdapter, ValidationError

from search_spaces.cell_blocks import BlockCellSpace
from search_spaces.cell_document import CellDocument, EdgeCellsSection
from search_spaces.cell_edges import EdgeCellSpace
from search_spaces.declared import DeclaredSpace
from search_spaces.faults import SpecError, did_you_mean, show, spec_error
from search_spaces.groups import check_groups
from search_spaces.mlp import MlpDocument, MlpSpace
from search_spaces.python import PythonDocument, load_python
from search_spaces.space import Space
from search_spaces.staged import StagedSpace
from search_spaces.staged_document import StagedDocument
from search_spaces.transformer import TransformerSpace
from search_spaces.transformer_document import AnyTransformerDocument, TextTransformerDocument, TransformerDocument

SpaceDocument: TypeAlias = Annotated[
    StagedDocument | CellDocument | AnyTransformerDocument | MlpDocument | PythonDocument,
    Field(discriminator="family"),
]
"""A space as it is written down; the key `family` tells which kind."""


@cache
def _any_space() -> type[RootModel[SpaceDocument]]:
    """Made when first needed: importing this package parses nothing."""

    class AnySpace(RootModel[SpaceDocument]):
        pass

    return AnySpace


def load_space(source: str | Path | Mapping[str, Any]) -> Space:
    """A space by the name of a preset or a reference network, by the path of a file, or from a mapping.

    Raises:
        SpecError: with everything that is wrong with the document.
        FileNotFoundError: for a name that is none of these.
    """
    if isinstance(source, Mapping):
        return _make(document_of(source), "space")
    name, path = str(source), Path(source)
    if name not in names() and path.is_file():
        return _make(read_document(path), path.stem)
    try:
        return _make(named(name), name)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no such file, and {error}") from None


def document_of(source: Any) -> Any:
    """What is meant where a space stands in a document: by a name, as text or as ``{name: ...}``, what it names.

    Anything else is returned as it is.

    Raises:
        FileNotFoundError: for a name that is none.
    """
    alone = source["name"] if isinstance(source, Mapping) and set(source) == {"name"} else source
    return named(alone) if isinstance(alone, str) else source


def named(name: str) -> dict[str, Any]:
    """The document of a preset or, where no preset is called so, of a reference network.

    Raises:
        FileNotFoundError: for a name that is neither's; the message tells the names that there are.
    """
    if name in presets():
        return preset(name)
    if name in references():
        return reference(name)
    raise FileNotFoundError(
        f"{show(name)} is not the name of a space; allowed: {', '.join(presets())}, and the names of "
        f"{len(references())} reference networks{did_you_mean(name, names())}"
    )


def space_of(document: SpaceDocument, name: str = "space") -> Space:
    """The space of a parsed document. Raises `SpecError` for a Python space that cannot be imported."""
    if isinstance(document, StagedDocument):
        return StagedSpace(document, name)
    if isinstance(document, CellDocument):
        edges = isinstance(document.architecture, EdgeCellsSection)
        return EdgeCellSpace(document, name) if edges else BlockCellSpace(document, name)
    if isinstance(document, TransformerDocument | TextTransformerDocument):
        return TransformerSpace(document, name)
    if isinstance(document, MlpDocument):
        return MlpSpace(document, name)
    return load_python(document)


def checked_space(document: SpaceDocument, name: str = "space") -> Space:
    """The space of a new document: raises `SpecError` also where its sections do not fit together."""
    space = space_of(document, name)
    if isinstance(space, DeclaredSpace):
        check_groups(space)
    return space


def load_reference(name: str, changes: Mapping[str, Any] | None = None) -> Space:
    """A reference network: a space of one architecture, ``space.architecture({})``.

    Args:
        name: one of `references()`.
        changes: other values by their places in the document, to resize the network or to open what is to vary:
            ``{"architecture.resolution": 192, "architecture.stages.1.kernel": [3, 5]}``.

    Raises:
        SpecError: with everything that is wrong with the changed document.
        FileNotFoundError: for a name that is no reference network's.
    """
    if name not in references():
        raise FileNotFoundError(f"no reference network is called {show(name)}{did_you_mean(name, references())}")
    document = reference(name)
    for place, value in (changes or {}).items():
        document = _changed(document, place.split("."), value, place)
    return _make(document, name)


@cache
def presets() -> tuple[str, ...]:
    """Names of the spaces that come with the package."""
    return _names("presets")


@cache
def references() -> tuple[str, ...]:
    """Names of the published networks that come with the package."""
    return _names("references")


def names() -> tuple[str, ...]:
    """Names of all that comes with the package; a preset and a reference network may share one."""
    return tuple(dict.fromkeys([*presets(), *references()]))


def preset(name: str) -> dict[str, Any]:
    """The document of a preset."""
    return _packaged("presets", name)


def reference(name: str) -> dict[str, Any]:
    """The document of a reference network."""
    return _packaged("references", name)


def about(kind: Literal["presets", "references"], name: str) -> str:
    """What a preset or a reference network is: the comment that begins its page."""
    comment, _, _ = (resources.files("search_spaces") / kind / f"{name}.yaml").read_text().partition("\nfamily")
    return " ".join(line.removeprefix("#").strip() for line in comment.splitlines() if line.startswith("#"))


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a space document, for editors."""
    from search_spaces.schema import DocumentSchema

    schema = TypeAdapter(SpaceDocument).json_schema(schema_generator=DocumentSchema)
    return {"$schema": DocumentSchema.schema_dialect, "title": "Search space", **schema}


def read_document(path: Path) -> dict[str, Any]:
    """A YAML or JSON file that holds a mapping.

    Raises:
        SpecError: if it cannot be read as one.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if not text.strip():
            raise SpecError.at("", f"{path} is empty; a mapping is needed")
        document = json.loads(text) if path.suffix == ".json" else parse_text(text)
    except UnicodeDecodeError as error:
        raise SpecError.at("", f"{path} is not a text file: {error.reason}") from None
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise SpecError.at("", f"{path} is not valid: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise SpecError.at("", f"{path} holds {show(document)}; a mapping is needed")
    return document


def parse_text(text: str) -> object:
    """YAML as people mean it: 1e-3 is a number, on and yes are words, no key stands twice, no aliases."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (AttributeError, IndexError, TypeError, ValueError) as error:  # PyYAML's own, on odd tagged scalars
        raise yaml.YAMLError(f"a value cannot be read: {error}") from None


def _names(kind: str) -> tuple[str, ...]:
    folder = resources.files("search_spaces") / kind
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))


def _packaged(kind: str, name: str) -> dict[str, Any]:
    document = parse_text((resources.files("search_spaces") / kind / f"{name}.yaml").read_text())
    assert isinstance(document, dict)
    return {"name": name, **document}


def _changed(document: Any, keys: list[str], value: object, place: str) -> Any:
    """A document with another value where the keys lead; `place` is for the message."""
    if not keys:
        return value
    first, *rest = keys
    if isinstance(document, list) and first.isdigit() and int(first) < len(document):
        index = int(first)
        return [*document[:index], _changed(document[index], rest, value, place), *document[index + 1 :]]
    if isinstance(document, dict):
        return {**document, first: _changed(document.get(first, {}), rest, value, place)}
    raise SpecError.at(place, f"is no place in the document: {show(document)} has no {show(first)}")


def _make(document: Mapping[str, Any], name: str) -> Space:
    try:
        parsed = _any_space().model_validate(document).root
    except ValidationError as error:
        raise spec_error(error, _any_space(), document) from None
    return checked_space(parsed, name)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's reading of scalars, on PyYAML's safe loader."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str | int | float | bool) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice", key_node.start_mark
                )
            if isinstance(key, str | int | float | bool):
                seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in ("tag:yaml.org,2002:bool",)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|True|false|False)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)
