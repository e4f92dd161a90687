"""What results and tables look like to people."""

from pathlib import Path
from typing import Any, cast

import pytest
from typer.testing import CliRunner

import nas
from nas.cli import app
from search_spaces.load import parse_text

TEXT = """
name: words
space: nas-bench-201
objectives: [max accuracy, min params]
searcher: random
evaluator: {kind: tabular, table: nas-bench-201}
budget: {max_trial_count: 30}
"""
DOCUMENT = cast(dict[str, Any], parse_text(TEXT))


def test_a_result_says_in_one_line_what_was_found() -> None:
    result = nas.search(DOCUMENT, executor="inline")
    said = repr(result)
    assert len(said) < 250
    assert result.job.id in said
    assert "SUCCEEDED, trials: 30 SUCCEEDED" in said
    best = result.best("accuracy")
    assert f"max accuracy: {best['accuracy']:.6g} by trial {best['number']}" in said
    assert f"min params: {result.best('params')['params']:.6g}" in said


def test_a_result_without_a_feasible_trial_has_no_best() -> None:
    bounds = ["accuracy >= 0.99999"]
    result = nas.search({**DOCUMENT, "constraints": bounds}, executor="inline")
    assert "by trial" not in repr(result)


@pytest.mark.parametrize("width", [80, 160])
def test_tables_on_networks_of_nas_bench_201_fold_nothing(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_DATABASE_URL", f"sqlite:///{tmp_path}/nas.db")
    monkeypatch.setattr("nas.commands.show.PIPED", width)
    document = tmp_path / "job.yaml"
    document.write_text(TEXT)
    run = CliRunner()
    assert run.invoke(app, ["search", str(document), "--executor", "inline"]).exit_code == 0
    bounds = ["-c", "params <= 4e5", "-c", "params <= 1e6"]
    family = run.invoke(app, ["family", "latest", *bounds])
    assert family.exit_code == 0, family.output
    rows = [line.strip() for line in family.stdout.splitlines() if line.strip()]
    assert len(rows) == 2 + 2 + 2  # head and rule, figures, networks
    assert rows[2].startswith("params <= 400000 ")
    assert rows[4].startswith("params <= 400000: edge_0_1=")
    predictors = run.invoke(app, ["predictors", "latest"])
    rows = [line.strip() for line in predictors.stdout.splitlines() if line.strip()]
    assert all(line.startswith(("metric ", "accuracy ", "─")) for line in rows)
    assert len(rows) > 3
