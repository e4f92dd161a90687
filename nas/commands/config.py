"""`nas config`: the settings of the environment, as they are."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from nas.commands.show import faults_told, print_json, say, table


def config(json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """Show all settings and where each comes from; secrets are masked."""
    from nas.settings import read_settings, shown, unknown_variables

    with faults_told():
        settings = shown(read_settings())
    for remark in unknown_variables():
        say(f"warning: {remark}")
    if json:
        print_json({"settings": [asdict(s) for s in settings]})
        return
    rows = [[s.name, _text(s.value), s.source, s.description] for s in settings]
    table(["variable", "value", "source", "meaning"], rows)


def _text(value: object) -> str:
    if value is None:
        return ""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
