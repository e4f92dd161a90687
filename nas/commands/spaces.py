"""`nas space`: what a space holds, before anything is searched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.show import faults_told, print_json, short, table

if TYPE_CHECKING:
    from search_spaces import Space

app = typer.Typer(help="Describe, validate and sample search spaces.", no_args_is_help=True)

Source = Annotated[str, typer.Argument(metavar="SPACE", help="name of a preset, or a YAML or JSON file")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]


@app.command("list")
def list_(json: Json = False) -> None:
    """Names of the presets."""
    from search_spaces import presets

    if json:
        print_json({"presets": list(presets())})
    else:
        typer.echo("\n".join(presets()))


@app.command()
def describe(space: Source, json: Json = False) -> None:
    """Size, choices with their conditions, and the range of costs over 1,000 samples."""
    import numpy as np

    from nas.wire import space_dict
    from search_spaces.declared import DeclaredSpace
    from search_spaces.operators import sample

    with faults_told():
        found = _load(space)
    if json and isinstance(found, DeclaredSpace):
        print_json(space_dict(found))
        return
    typer.echo(f"{found.name}: {len(found.choices)} choices, {found.size:.4g} points")
    rows = [
        [
            c.name,
            ", ".join(map(str, c.values)),
            " and ".join(f"{w.name} in {{{', '.join(map(str, w.values))}}}" for w in c.when),
        ]
        for c in found.choices
    ]
    table(["choice", "values", "has an effect where"], rows)
    costs = found.costs(sample(found, 1000, np.random.default_rng(0)))
    for name, values in costs.items():
        typer.echo(f"{name}: {values.min():.6g} to {values.max():.6g} over 1,000 samples")


@app.command()
def validate(space: Source, json: Json = False) -> None:
    """Check a document; every fault with its path, and exit code 2."""
    with faults_told():
        found = _load(space)
    if json:
        print_json({"name": found.name, "size": str(found.size), "choices": len(found.choices)})
    else:
        typer.echo(f"{found.name} is valid: {len(found.choices)} choices, {found.size:.4g} points")


@app.command()
def sample(
    space: Source,
    n: Annotated[int, typer.Option("-n", min=1, max=100_000)] = 5,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json: Json = False,
) -> None:
    """Draw architectures uniformly over genes, with their costs."""
    with faults_told():
        found = _load(space)
    drawn = found.sample(n, seed)
    if json:
        print_json({"architectures": [{"key": a.key, "values": dict(a), "costs": found.cost(a)} for a in drawn]})
        return
    costs = [found.cost(a) for a in drawn]
    names = list(costs[0])
    table(
        [*names, "architecture"], [[*(c[m] for m in names), short(a)] for a, c in zip(drawn, costs, strict=True)]
    )


def _load(source: str) -> Space:
    """A preset, a file that holds a space, or the space of a whole document."""
    from pathlib import Path

    from search_spaces.load import load_space, read_document

    if Path(source).is_file():
        document = read_document(Path(source))
        return load_space(document["space"] if "space" in document else {"name": Path(source).stem, **document})
    return load_space(source)
