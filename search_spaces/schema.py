"""JSON Schema of documents, as editors want it: with defaults and descriptions."""

from __future__ import annotations

import ast
import inspect
import textwrap
from itertools import pairwise
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema
from typing_extensions import override

from search_spaces.domains import Domain


class DocumentSchema(GenerateJsonSchema):
    """Defaults stand as documents would write them; the docstrings below fields describe these."""

    @override
    def encode_default(self, dft: Any) -> Any:
        return dft.dump() if isinstance(dft, Domain) else super().encode_default(dft)

    @override
    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        told = _told(schema["cls"])
        for name, own in found.get("properties", {}).items():
            if name in told:
                own.setdefault("description", told[name])
        return found


def _told(model: type[BaseModel]) -> dict[str, str]:
    """What the source says below each field; read when a schema is wanted, so that importing stays fast."""
    told: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if not issubclass(kind, BaseModel) or kind is BaseModel:
            continue
        try:
            (written,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
        except OSError:  # a class without a source file
            continue
        assert isinstance(written, ast.ClassDef)
        for field, below in pairwise(written.body):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    told[name] = inspect.cleandoc(text)
    return told
