"""`nas space`: what a space holds, before anything is searched."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.commands.show import BAD_INPUT, fail, faults_told, print_json, say, short, table

if TYPE_CHECKING:
    from search_spaces import Choice, Space

app = typer.Typer(help="Describe, validate, sample and draw search spaces.", no_args_is_help=True)

Source = Annotated[
    str, typer.Argument(metavar="SPACE", help="a preset, a reference network, or a YAML or JSON file")
]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]
Output = Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="instead of standard output")]
SAMPLES = 1000
"""Architectures that ranges of costs are told from."""


@app.command("list")
def list_(json: Json = False) -> None:
    """The presets and the reference networks that come with the package."""
    from search_spaces.load import about, presets, references

    if json:
        print_json({"presets": list(presets()), "references": list(references())})
        return
    table(["preset", ""], [[name, about("presets", name)] for name in presets()])
    table(["reference network", ""], [[name, about("references", name)] for name in references()])


@app.command()
def describe(space: Source, json: Json = False) -> None:
    """Size, choices with their conditions, and the ranges of costs over 1,000 samples."""
    with faults_told(json):
        found = load(space)
    ranges = _ranges(found)
    if json:
        print_json({**_dict(found), "costs": ranges})
        return
    typer.echo(f"{found.name}: {len(found.choices)} choices, {points(found.size)}")
    for section, choices in _sections(found.choices).items():
        rows = [[c.name, _listed(c), _condition(c)] for c in choices]
        table(["choice", "values", "has an effect where"], rows, title=section)
    if ranges:
        rows = [[name, *(f"{v:,.0f}" for v in spread.values())] for name, spread in ranges.items()]
        table(["cost", "least", "median", "greatest"], rows, title=f"costs of {SAMPLES:,} samples")


@app.command()
def validate(space: Source, json: Json = False) -> None:
    """Check a document; every fault with its path, and exit code 2."""
    with faults_told(json):
        found = load(space)
    if json:
        print_json({"name": found.name, "size": str(found.size), "choices": len(found.choices)})
    else:
        typer.echo(f"{found.name} is valid: {len(found.choices)} choices, {points(found.size)}")


@app.command()
def sample(
    space: Source,
    n: Annotated[int, typer.Option("-n", min=1, max=100_000)] = 5,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json: Json = False,
) -> None:
    """Draw architectures uniformly over genes, with their costs."""
    with faults_told(json):
        found = load(space)
    drawn = found.sample(n, seed)
    columns = {name: values.tolist() for name, values in found.costs(found.genes(drawn)).items()}
    costs = [{name: float(values[i]) for name, values in columns.items()} for i in range(n)]
    if json:
        listed = [{"key": a.key, "values": dict(a), "costs": c} for a, c in zip(drawn, costs, strict=True)]
        print_json({"architectures": listed})
        return
    table([*columns, "architecture"], [[*c.values(), short(a)] for a, c in zip(drawn, costs, strict=True)])


@app.command()
def schema(output: Output = None) -> None:
    """Print the JSON Schema of space documents, by which editors complete and check them."""
    import json

    from search_spaces.load import json_schema

    put(json.dumps(json_schema(), indent=2) + "\n", output)


def load(source: str) -> Space:
    """A preset, a reference network, a file that holds a space, or the space of a whole document.

    Raises:
        SpecError: with everything that is wrong with the space, or for a name that is none of these.
    """
    from search_spaces import SpecError
    from search_spaces.faults import show
    from search_spaces.load import load_space, read_document

    if not Path(source).is_file():
        try:
            return load_space(source)
        except FileNotFoundError as error:
            raise SpecError.at("", str(error)) from None
    document = read_document(Path(source))
    if "space" not in document:
        return load_space({"name": Path(source).stem, **document})
    space = document["space"]
    if not isinstance(space, str | dict):
        raise SpecError.at("space", f"{show(space)} is not allowed; allowed: a name or a document")
    return load_space(space)


def put(text: str, output: Path | None) -> None:
    """Write a result to a file, or print it."""
    if output is None:
        typer.echo(text, nl=False)
    else:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            fail(f"{output} cannot be written: {error.strerror}", BAD_INPUT)
        say(f"written: {output}")


def points(size: int) -> str:
    """The size of a space: exact, and as a power of ten where it is large."""
    exact = f"{size:,} points"
    return exact if size < 10**6 else f"{exact} (10^{math.log10(size):.1f})"


def _dict(space: Space) -> dict[str, Any]:
    from nas.wire import choice_dict, space_dict
    from search_spaces.declared import DeclaredSpace

    if isinstance(space, DeclaredSpace):
        return space_dict(space)
    return {"name": space.name, "size": space.size, "choices": [choice_dict(c) for c in space.choices]}


def _ranges(space: Space) -> dict[str, dict[str, float]]:
    """Least, median and greatest value of every cost that formulas know, over samples."""
    import numpy as np

    from search_spaces.operators import sample

    costs = space.costs(sample(space, SAMPLES, np.random.default_rng(0)))
    return {
        name: {"min": float(v.min()), "median": float(np.median(v)), "max": float(v.max())}
        for name, v in costs.items()
    }


def _sections(choices: tuple[Choice, ...]) -> dict[str, list[Choice]]:
    """The choices by the section of the document that they stand in."""
    found: dict[str, list[Choice]] = {}
    for choice in choices:
        first = choice.name.partition(".")[0]
        section = first if first in ("quantization", "recipe") else "architecture"
        found.setdefault(section, []).append(choice)
    return found


def _listed(choice: Choice) -> str:
    values = [f"{v:g}" if isinstance(v, float) else str(v) for v in choice.values]
    return ", ".join(values if len(values) <= 16 else [*values[:8], "...", *values[-3:]])


def _condition(choice: Choice) -> str:
    return " and ".join(f"{w.name} in {{{', '.join(map(str, w.values))}}}" for w in choice.when)
