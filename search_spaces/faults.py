"""What is wrong with a document: every fault with its path, the value found and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


@dataclass(frozen=True)
class Fault:
    """One thing wrong, at one path (dots between keys and indices; empty: the whole document)."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class SpecError(ValueError):
    """A document that cannot be accepted; `faults` holds everything that is wrong with it."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))

    @classmethod
    def at(cls, path: str, message: str) -> SpecError:
        """A single fault."""
        return cls([Fault(path, message)])

    def under(self, path: str) -> SpecError:
        """The same faults, inside a larger document at `path`."""
        return SpecError(Fault(".".join(filter(None, [path, f.path])), f.message) for f in self.faults)

    def __reduce__(self) -> tuple[Any, ...]:
        return (SpecError, (self.faults,))


def spec_error(error: ValidationError, model: type[BaseModel], document: object) -> SpecError:
    """Pydantic's findings about `document`, in this project's words and paths."""
    found: list[dict[str, Any]] = [dict(e) for e in error.errors(include_url=False)]
    # a list whose items are at fault counts as empty to pydantic; the items' own faults say enough
    deeper = {e["loc"][: len(e["loc"]) - 1] for e in found}
    told = [e for e in found if not (e["type"] == "too_short" and _above(e["loc"], deeper))]
    return SpecError(fault for e in told for fault in _faults(e, model, document))


def did_you_mean(word: object, allowed: Sequence[str]) -> str:
    """A hint such as ``; did you mean "kernel"?``, or nothing."""
    near = difflib.get_close_matches(word, allowed, n=1) if isinstance(word, str) else []
    return f'; did you mean "{near[0]}"?' if near else ""


def show(value: object) -> str:
    """A value as a message shows it: short, and on one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def _above(loc: tuple[str | int, ...], parents: set[tuple[str | int, ...]]) -> bool:
    return any(parent[: len(loc)] == loc for parent in parents)


def _faults(error: dict[str, Any], model: type[BaseModel], document: object) -> Sequence[Fault]:
    """One finding of pydantic's; a check of our own may have told several faults."""
    reason = (error.get("ctx") or {}).get("error")
    if isinstance(reason, SpecError):
        return reason.under(".".join(map(str, _without_tags(error["loc"], document)))).faults
    return [_fault(error, model, document)]


def _fault(error: dict[str, Any], model: type[BaseModel], document: object) -> Fault:
    loc: tuple[str | int, ...] = error["loc"]
    path = ".".join(map(str, _without_tags(loc, document)))
    kind, value, context = error["type"], error.get("input"), error.get("ctx") or {}
    if kind == "extra_forbidden":
        allowed = _fields(model, loc[:-1])
        return Fault(path, f"unknown key; allowed: {', '.join(allowed)}{did_you_mean(loc[-1], allowed)}")
    if kind == "missing":
        return Fault(path, "is required")
    if kind == "union_tag_invalid":
        tag, names = context["discriminator"].strip("'"), context["expected_tags"].replace("'", "")
        where = ".".join(filter(None, [path, tag]))
        hint = did_you_mean(context["tag"], names.split(", "))
        return Fault(where, f"{show(context['tag'])} is not known; allowed: {names}{hint}")
    if kind == "union_tag_not_found":
        tag = context["discriminator"].strip("'")
        return Fault(".".join(filter(None, [path, tag])), "is required")
    if kind == "too_short":
        return Fault(path, f"is empty; at least {context['min_length']} must be given")
    if kind == "value_error":
        return Fault(path, str(context["error"]))
    if kind in ("tuple_type", "list_type"):
        example = f", such as [{value}]" if isinstance(value, str) and len(value) <= 60 else ""
        return Fault(path, f"{show(value)} is not allowed: a list is needed{example}")
    message = str(error["msg"])
    return Fault(path, f"{show(value)} is not allowed: {message[0].lower()}{message[1:]}")


def _without_tags(loc: Sequence[str | int], document: object) -> list[str | int]:
    """The path as the user wrote it: pydantic puts the chosen member of a union into it as well."""
    path: list[str | int] = []
    here = document
    for position, part in enumerate(loc):
        if isinstance(here, str) and here == part:  # a kind alone, which stands for settings without more
            here = {"kind": part}
        if isinstance(here, Mapping):
            tagged = part not in here and (part in (here.get("kind"), here.get("family")) or _is_document(part))
            if tagged and position < len(loc):
                continue
            here = here.get(part)
        elif isinstance(here, (list, tuple)) and isinstance(part, int) and part < len(here):
            here = here[part]
        elif isinstance(part, str) and here is not None:  # it tells a list from a word or a number
            continue
        else:
            here = None
        path.append(part)
    return path


def _is_document(part: object) -> bool:
    """Whether pydantic put the name of a class here: one of several of the same family, or kinds of a section."""
    return isinstance(part, str) and part.endswith(("Document", "Section"))


def _fields(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The keys that the document allows at `loc`."""
    here = _models(model.model_fields["root"].annotation) if "root" in model.model_fields else [model]
    for part in loc:
        if isinstance(part, int):
            continue
        deeper = [m for k in here if part in k.model_fields for m in _models(k.model_fields[part].annotation)]
        here = deeper or [m for m in here if part == m.__name__ or part in _tags(m)] or here
    return list(dict.fromkeys(f.alias or name for m in here for name, f in m.model_fields.items()))


def _models(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    meant = getattr(annotation, "__value__", annotation)  # of a type with a name
    return [m for a in get_args(meant) for m in _models(a)]


def _tags(model: type[BaseModel]) -> list[object]:
    fields = [model.model_fields[name] for name in ("kind", "family") if name in model.model_fields]
    return [tag for f in fields for tag in get_args(f.annotation)]
