"""What the documentation shows is true: documents load, Python and commands run, figures are current."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nas.cli import app
from search_spaces import load_space
from search_spaces.load import parse_text

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "search-spaces.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def documents() -> list[dict[str, Any]]:
    """Every document of the page; what is a section only is put into the first."""
    found = [parse_text(text) for text in blocks("yaml")]
    assert all(isinstance(document, dict) for document in found)
    return [{**found[0], **document} for document in found]  # type: ignore[dict-item]


@pytest.mark.parametrize("document", documents(), ids=lambda d: str(d["family"]))
def test_documents_load_and_have_something_to_choose(document: dict[str, Any]) -> None:
    space = load_space(document)
    assert space.size > 1
    assert space.cost(space.sample(1, 0)[0])["params"] > 0


def test_every_family_has_an_example() -> None:
    assert {d["family"] for d in documents()} == {"staged", "cell", "transformer", "mlp"}


def test_python_runs_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    for text in blocks("python"):
        exec(compile(text, "docs/search-spaces.md", "exec"), names)


def test_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = [line for text in blocks("sh") for line in text.splitlines() if line.startswith("nas ")]
    assert commands
    for command in commands:
        done = CliRunner().invoke(app, shlex.split(command, comments=True)[1:])
        assert done.exit_code == 0, f"{command}\n{done.output}"


def figures() -> list[list[str]]:
    """The commands of `make figures` that draw."""
    text = (ROOT / "Makefile").read_text()
    return [shlex.split(line)[1:] for line in re.findall(r"^\t\$\(BIN\)/(nas space draw .*)$", text, re.MULTILINE)]


@pytest.mark.parametrize("command", figures(), ids=lambda c: Path(c[-1]).stem)
def test_figures_are_what_make_figures_draws(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    *arguments, _, target = command
    drawn = CliRunner().invoke(app, arguments)
    assert drawn.exit_code == 0, drawn.output
    assert Path(target).read_text() == drawn.stdout, f"{target} is out of date: run `make figures`"


def test_every_figure_is_shown_and_every_figure_shown_is_drawn() -> None:
    shown = set(re.findall(r"\]\((figures/.*?\.svg)\)", PAGE))
    assert shown == {Path(c[-1]).relative_to("docs").as_posix() for c in figures()}
