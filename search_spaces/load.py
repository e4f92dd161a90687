"""From a preset's name, a file or a mapping to a space."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import yaml
from pydantic import Field, RootModel, TypeAdapter, ValidationError

from search_spaces.cell import CellDocument, CellSpace
from search_spaces.faults import SpecError, did_you_mean, show, spec_error
from search_spaces.python import PythonDocument, load_python
from search_spaces.space import Space
from search_spaces.staged import StagedDocument, StagedSpace

SpaceDocument: TypeAlias = Annotated[StagedDocument | CellDocument | PythonDocument, Field(discriminator="family")]
"""A space as it is written down; the key `family` tells which kind."""


class _AnySpace(RootModel[SpaceDocument]):
    pass


def load_space(source: str | Path | Mapping[str, Any]) -> Space:
    """A space by the name of a preset, by the path of a YAML or JSON file, or from a mapping.

    Raises:
        SpecError: with everything that is wrong with the document.
        FileNotFoundError: for a name that is neither a preset nor a file.
    """
    if isinstance(source, Mapping):
        return _make(source, "space")
    if str(source) in presets():
        return _make(preset(str(source)), str(source))
    path = Path(source)
    if not path.is_file():
        names = list(presets())
        raise FileNotFoundError(
            f"{show(str(source))} is neither a file nor a preset; presets: {', '.join(names)}"
            f"{did_you_mean(source, names)}"
        )
    return _make(read_document(path), path.stem)


def space_of(document: StagedDocument | CellDocument | PythonDocument, name: str = "space") -> Space:
    """The space of a parsed document. Raises `SpecError` for a Python space that cannot be imported."""
    if isinstance(document, StagedDocument):
        return StagedSpace(document, name)
    if isinstance(document, CellDocument):
        return CellSpace(document, name)
    return load_python(document)


@cache
def presets() -> tuple[str, ...]:
    """Names of the documents that come with the package."""
    folder = resources.files("search_spaces") / "presets"
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))


def preset(name: str) -> dict[str, Any]:
    """The document of a preset."""
    text = (resources.files("search_spaces") / "presets" / f"{name}.yaml").read_text()
    document = parse_text(text)
    assert isinstance(document, dict)
    return {"name": name, **document}


def json_schema() -> dict[str, Any]:
    """JSON Schema of a space document, for editors."""
    return TypeAdapter(SpaceDocument).json_schema()


def read_document(path: Path) -> dict[str, Any]:
    """A YAML or JSON file that holds a mapping.

    Raises:
        SpecError: if it cannot be read as one.
    """
    try:
        text = path.read_text(encoding="utf-8")
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


def _make(document: Mapping[str, Any], name: str) -> Space:
    try:
        parsed = _AnySpace.model_validate(document).root
    except ValidationError as error:
        raise spec_error(error, _AnySpace, document) from None
    return space_of(parsed, name)


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
