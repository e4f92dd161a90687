from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

import nas
from nas.check import check
from nas.evaluators import tables
from nas.evaluators.infeasible import Infeasible
from nas.evaluators.tabular import TabularConfig, TabularEvaluator
from nas.held_out import can_test
from nas.job import JobSpec
from nas.trial import Proposal
from search_spaces import Architecture, Choice, Condition, SpecError, load_space
from search_spaces.load import parse_text
from search_spaces.space import Space


class Shop(Space):
    """Words, numbers and truths; the size matters only where there is a hat."""

    name = "shop"
    choices = (
        Choice("colour", ("red", "None")),
        Choice("hat", (False, True)),
        Choice("size", (1, 2.5), when=(Condition("hat", (True,)),)),
    )

    def build(self, arch: Architecture) -> None:  # type: ignore[override]
        raise AssertionError("a table builds nothing")


SHOP = Shop()
ROWS = pd.DataFrame(
    {
        "colour": ["red", "None", "red", "red", "blue"],
        "hat": [False, True, False, True, True],
        "size": [2.5, 2.5, 1.0, 1.0, 1.0],
        "acc": [90.0, 80.0, 91.0, 70.0, 1.0],
        "ms": [1.0, 2.0, 3.0, np.nan, 5.0],
        "note": list("abcde"),
    }
)
METRICS = {"accuracy": {"column": "acc", "scale": 0.01}, "latency_ms": "ms"}


def report(step: int, metrics: object) -> None:
    raise AssertionError("a table reports nothing")


def ask(evaluator: TabularEvaluator, **values: object) -> dict[str, float]:
    return dict(evaluator.evaluate(Proposal(SHOP.architecture(values)), report))  # type: ignore[arg-type]


@pytest.fixture(params=["parquet", "csv"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    path = tmp_path / f"shop.{request.param}"
    if request.param == "csv":
        ROWS.to_csv(path, index=False)
    else:
        ROWS.to_parquet(path)
    return str(path)


def config(table: str, **settings: object) -> TabularConfig:
    return TabularConfig.model_validate({"table": table, "metrics": METRICS, **settings})


def faults(settings: TabularConfig) -> dict[str, str]:
    return {f.path: f.message for f in settings.faults(SHOP)}


def test_metrics_are_looked_up_and_scaled(table: str) -> None:
    evaluator = config(table).bind(SHOP, 0)
    assert ask(evaluator, colour="None", hat=True, size=2.5) == {"accuracy": pytest.approx(0.8), "latency_ms": 2.0}


def test_of_equal_networks_the_row_with_canonical_genes_counts(table: str) -> None:
    evaluator = config(table).bind(SHOP, 0)
    assert ask(evaluator, colour="red", hat=False, size=2.5)["accuracy"] == pytest.approx(0.91)
    assert ask(evaluator, colour="red", hat=False)["accuracy"] == pytest.approx(0.91)


def test_without_a_canonical_row_the_first_counts(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    twice = pd.concat([ROWS.iloc[[0]], ROWS.iloc[[0]].assign(acc=5.0)])
    twice.to_csv(path, index=False)
    evaluator = config(str(path)).bind(SHOP, 0)
    assert ask(evaluator, colour="red", hat=False)["accuracy"] == pytest.approx(0.9)


def test_what_is_not_in_the_table_is_infeasible(table: str) -> None:
    evaluator = config(table).bind(SHOP, 0)
    with pytest.raises(Infeasible, match=r"not in the table.*'size': 2\.5"):
        ask(evaluator, colour="red", hat=True, size=2.5)
    with pytest.raises(Infeasible, match="latency_ms is nan in the table"):
        ask(evaluator, colour="red", hat=True, size=1)


def test_it_pickles_without_the_table(table: str) -> None:
    evaluator = config(table).bind(SHOP, 0)
    Path(table).unlink()
    copy = pickle.loads(pickle.dumps(evaluator))
    assert ask(copy, colour="None", hat=True, size=2.5) == ask(evaluator, colour="None", hat=True, size=2.5)


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    ROWS.rename(columns={"size": "grösse"}).astype({"colour": "category"}).to_parquet(path)
    settings = config(str(path), genes={"size": "grösse"})
    assert settings.metrics() == {"accuracy", "latency_ms"}
    assert ask(settings.bind(SHOP, 0), colour="None", hat=True, size=2.5)["latency_ms"] == 2.0


def test_every_fault_is_named_with_what_is_allowed(table: str) -> None:
    assert faults(config(table)) == {}
    assert (
        'not a choice of shop; did you mean "size"?' in faults(config(table, genes={"sise": "size"}))["genes.sise"]
    )
    assert (
        "no column grösse; allowed: colour, hat, size"
        in faults(config(table, genes={"size": "grösse"}))["genes.size"]
    )
    wrong = faults(config(table, metrics={"accuracy": "accu", "energy_mj": "note"}))
    assert "no column accu; allowed: colour" in wrong["metrics.accuracy"]
    assert "column note holds 'a'; allowed: a column of numbers" in wrong["metrics.energy_mj"]
    mixed_up = faults(config(table, genes={"hat": "note"}))
    assert mixed_up == {"genes.hat": "column note holds a, b, c, d, e; allowed: False, True"}
    with pytest.raises(SpecError, match="no column accu"):
        config(table, metrics={"accuracy": "accu"}).bind(SHOP, 0)


def test_faults_of_the_file_itself(tmp_path: Path) -> None:
    assert "is not there" in faults(config(str(tmp_path / "none.csv")))["table"]
    for path in (tmp_path / "table.xlsx", tmp_path):
        with pytest.raises(ValidationError, match=r"files that end in \.parquet or \.csv"):
            config(str(path))
    for name, content in (("a.parquet", b"no parquet"), ("b.csv", b""), ("c.csv", b"\xff\xfe\x00")):
        (tmp_path / name).write_bytes(content)
        assert "cannot be read" in faults(config(str(tmp_path / name)))["table"]
    (tmp_path / "d.csv").write_text("colour,hat,size,acc,ms\n")
    assert "has no rows" in faults(config(str(tmp_path / "d.csv")))["table"]


def test_rows_that_fit_no_architecture_together_are_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    ROWS.assign(colour=["red", "blue", "blue", "blue", "blue"], size=[9.0, 1.0, 1.0, 1.0, 1.0]).to_parquet(path)
    assert "no row whose values are all in shop" in faults(config(str(path)))["table"]


@pytest.mark.parametrize(
    "metrics",
    [{}, {"no good": "acc"}, {"accuracy": {"column": "acc", "scale": float("inf")}}, {"a": {"scale": 1}}],
)
def test_settings_that_say_nothing_useful_are_refused(metrics: object) -> None:
    with pytest.raises(ValidationError):
        config("t.csv", metrics=metrics)


def test_the_document_reads_back() -> None:
    document = {
        "space": "nas-bench-201",
        "objectives": ["max accuracy"],
        "evaluator": {"kind": "tabular", "table": "t.csv", "metrics": METRICS},
    }
    spec = JobSpec.parse(document)
    assert JobSpec.parse(spec.dump()) == spec
    assert set(spec.dump()["evaluator"]) == {"kind", "table", "genes", "metrics", "test"}
    with pytest.raises(SpecError, match="unknown key; allowed: kind, table, genes, metrics, test"):
        JobSpec.parse(document | {"evaluator": {"kind": "tabular", "table": "t", "metrics": METRICS, "tabel": 1}})


def test_over_http_only_names_in_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = tmp_path / "registry"
    registry.mkdir()
    ROWS.to_csv(registry / "shop.csv", index=False)
    ROWS.to_csv(tmp_path / "secret.csv", index=False)
    (registry / "words.txt").write_text("no table")
    monkeypatch.chdir(tmp_path)

    monkeypatch.delenv("NAS_DATA_DIR", raising=False)
    assert "the data registry is empty" in config("shop.csv").remote_faults()[0].message
    monkeypatch.setenv("NAS_DATA_DIR", str(registry))
    assert config("shop.csv").remote_faults() == []
    assert ask(config("shop.csv").bind(SHOP, 0), colour="None", hat=True, size=2.5)["latency_ms"] == 2.0
    for path in ("words.txt", "..", ""):
        with pytest.raises(ValidationError, match="is not allowed"):
            config(path)
    for path in ("secret.csv", "../secret.csv", str(tmp_path / "secret.csv"), "/etc/passwd.csv"):
        (fault,) = config(path).remote_faults()
        assert fault.path == "table"
        assert fault.message.endswith("allowed: nas-bench-201, or a file in the data registry: shop.csv")
    assert config("nas-bench-201").remote_faults() == []
    assert "a file in the data registry: shop.csv" in faults(config("sop.csv"))["table"]


NAS_BENCH = TabularConfig(table="nas-bench-201")


def test_a_table_of_the_package_needs_no_further_word() -> None:
    space = load_space("nas-bench-201")
    assert NAS_BENCH.faults(space) == []
    operations = dict.fromkeys((c.name for c in space.choices), "nor_conv_3x3")
    best = space.architecture(operations | {"edge_0_3": "skip_connect", "edge_2_3": "nor_conv_1x1"})
    found = NAS_BENCH.bind(space, 0).evaluate(Proposal(best), report)
    assert set(found) == NAS_BENCH.metrics()
    assert {"accuracy", "accuracy_seed", "accuracy_12ep", "latency_ms_raspi4", "reported_params"} <= set(found)
    assert found["accuracy"] == pytest.approx(0.91607, abs=1e-5)  # the best of the benchmark
    assert found["reported_params"] == space.cost(best)["params"]
    assert found["reported_macs"] > space.cost(best)["macs"]  # the benchmark counts more than convolutions


def test_a_metric_of_the_package_may_have_another_name() -> None:
    space = load_space("nas-bench-201")
    metrics = {
        "latency_ms": "lat_ms_pixel3",  # a column
        "latency_s": {"column": "latency_ms_pixel3", "scale": 0.001},  # a metric
        "percent": {"column": "accuracy", "scale": 100},
    }
    evaluator = TabularConfig.model_validate({"table": "nas-bench-201", "metrics": metrics}).bind(space, 0)
    for architecture in space.sample(5, 0):
        found = evaluator.evaluate(Proposal(architecture), report)
        assert found["latency_ms"] == found["latency_ms_pixel3"] == pytest.approx(1000 * found["latency_s"])
        assert found["percent"] == pytest.approx(100 * found["accuracy"])


def test_test_metrics_are_kept_from_a_search() -> None:
    space = load_space("nas-bench-201")
    evaluator = NAS_BENCH.bind(space, 0)
    assert can_test(evaluator)
    proposal = Proposal(space.sample(1, 0)[0])
    tested = evaluator.test(proposal)  # type: ignore[attr-defined]
    assert set(tested) == {"test_accuracy", "test_accuracy_12ep"}
    assert not set(tested) & set(evaluator.evaluate(proposal, report))
    with pytest.raises(SpecError, match=r"'test_accuracy' is not a metric .* allowed: accuracy, accuracy_12ep"):
        check(JobSpec.parse({"space": "nas-bench-201", "objectives": ["max test_accuracy"], "evaluator": WHOLE}))


WHOLE = {"kind": "tabular", "table": "nas-bench-201"}


def test_a_search_over_the_package_needs_no_data_of_ones_own() -> None:
    result = nas.search(
        space="nas-bench-201",
        objectives=["max accuracy", "min latency_ms_raspi4"],
        evaluator=WHOLE,
        searcher="random",
        executor="inline",
        max_trial_count=6,
    )
    assert result.state == "SUCCEEDED"
    assert set(result.test(executor="inline").pareto_front["test_accuracy"]) != {None}


def test_a_table_of_the_package_is_of_its_own_choices_and_metrics() -> None:
    (fault,) = NAS_BENCH.faults(load_space("mobilenetv3"))
    assert fault.path == "table"
    assert fault.message.endswith("edge_2_3; mobilenetv3 has others")
    wrong = TabularConfig.model_validate({"table": "nas-bench-201", "metrics": {"latency_ms": "latency_ms_raspi"}})
    (fault,) = wrong.faults(load_space("nas-bench-201"))
    assert fault.path == "metrics.latency_ms"
    assert "allowed: accuracy, accuracy_seed" in fault.message
    assert 'did you mean "latency_ms_raspi4"?' in fault.message
    with pytest.raises(ValidationError, match='did you mean "nas-bench-201"'):
        config("nas-bench-21")


@pytest.mark.parametrize("registry", [False, True])
def test_a_file_is_never_taken_for_a_table_of_the_package(
    registry: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name alone is the package's; a file of that name has a suffix, and is meant with it."""
    ROWS.to_parquet(tmp_path / "nas-bench-201")
    ROWS.to_parquet(tmp_path / "nas-bench-201.parquet")
    monkeypatch.chdir(tmp_path)
    if registry:
        monkeypatch.setenv("NAS_DATA_DIR", str(tmp_path))
    assert "table" in faults(config("nas-bench-201", metrics={}))  # the package's, of another space
    assert faults(config("nas-bench-201.parquet")) == {}
    with pytest.raises(ValidationError, match=r"'\./nas-bench-201' is not allowed"):
        config("./nas-bench-201")


def test_several_columns_are_several_measurements(tmp_path: Path) -> None:
    path = str(tmp_path / "t.csv")
    ROWS.assign(other=ROWS["acc"] + 1, third=ROWS["acc"] + 2).to_csv(path, index=False)
    noisy = config(path, metrics={"accuracy": ["acc", "other", "third"], "latency_ms": "ms"})
    assert (noisy.measurements(), config(path).measurements()) == (3, 1)
    black = {"colour": "None", "hat": True, "size": 2.5}
    assert [ask(noisy.bind(SHOP, seed), **black)["accuracy"] for seed in (0, 1, 3)] == [80, 81, 80]
    again = noisy.bind(SHOP, 1).repeat(1)
    assert ask(again, **black) == {"accuracy": 82, "latency_ms": 2}
    assert "no column fourth" in faults(config(path, metrics={"accuracy": ["acc", "fourth"]}))["metrics.accuracy"]


def test_a_table_of_ones_own_may_have_test_metrics(table: str) -> None:
    tested = config(table, metrics={"latency_ms": "ms"}, test={"test_accuracy": "acc"}).bind(SHOP, 0)
    black = Proposal(SHOP.architecture({"colour": "None", "hat": True, "size": 2.5}))
    assert tested.test(black) == {"test_accuracy": 80}  # type: ignore[attr-defined]
    assert not can_test(config(table).bind(SHOP, 0))
    assert "no column accu" in faults(config(table, test={"test_accuracy": "accu"}))["test.test_accuracy"]
    with pytest.raises(ValidationError):
        config(table, test={"accuracy": "acc"})


@pytest.fixture(scope="module")
def bench(shared_data: Path) -> tuple[pd.DataFrame, TabularConfig]:
    path = shared_data / "nasbench201_cifar10.parquet"
    columns = {f"edge_{i}_{j}": f"op_{i}{j}" for j in range(1, 4) for i in range(j)}
    metrics = {
        "accuracy": {"column": "cifar10_valid_acc", "scale": 0.01},
        "latency_ms": "lat_ms_raspi4",
        "params": "cifar10_params",
    }
    return pd.read_parquet(path), TabularConfig.model_validate(
        {"table": str(path), "genes": columns, "metrics": metrics}
    )


def test_nas_bench_201_gives_accuracy_and_latency(bench: tuple[pd.DataFrame, TabularConfig]) -> None:
    frame, settings = bench
    space = load_space("nas-bench-201")
    evaluator = settings.bind(space, 0)
    best = frame.loc[frame["cifar10_valid_acc"].idxmax()]
    arch = space.architecture({f"edge_{c[3]}_{c[4]}": best[c] for c in frame.columns if c.startswith("op_")})
    found = evaluator.evaluate(Proposal(arch), report)
    assert found["accuracy"] == pytest.approx(0.91607, abs=1e-5)
    assert found["latency_ms"] == best["lat_ms_raspi4"]
    for architecture in space.sample(300, 0):  # the whole space is in the table
        assert 0 < evaluator.evaluate(Proposal(architecture), report)["accuracy"] < 1


def test_the_space_agrees_with_nas_bench_201(bench: tuple[pd.DataFrame, TabularConfig]) -> None:
    """Networks equal in the benchmark's own words have one key, and the metrics of one row."""
    frame, settings = bench
    space = load_space("nas-bench-201")
    genes = np.stack(
        [frame[settings.genes[c.name]].map(c.values.index).to_numpy() for c in space.choices], axis=1
    ).astype(np.int64)
    archs = space.architectures(genes)
    evaluator = settings.model_copy(update={"representative": "representative"}).bind(space, 0)
    for i in range(0, len(frame), 37):
        found = evaluator.evaluate(Proposal(archs[i]), report)
        assert found["accuracy"] == frame["cifar10_valid_acc"][frame["representative"][i]] * 0.01
    keys = pd.Series([a.key for a in archs])
    assert frame["canonical"].groupby(keys.to_numpy()).nunique().max() == 1
    assert keys.nunique() == frame["canonical"].nunique()


def test_row_numbers_are_checked(bench: tuple[pd.DataFrame, TabularConfig]) -> None:
    space = load_space("nas-bench-201")
    for column, words in [("representativ", 'did you mean "representative"?'), ("cifar10_params", "0 to 15624")]:
        (fault,) = bench[1].model_copy(update={"representative": column}).faults(space)
        assert fault.path == "representative"
        assert words in fault.message


def test_the_page_about_tables_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[3] / "docs" / "tables.md").read_text()
    names: dict[str, object] = {}
    for text in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        exec(compile(text, "docs/tables.md", "exec"), names)
    packaged, own = [
        JobSpec.parse({"space": "nas-bench-201", "objectives": ["max accuracy"], **parse_text(text)})  # type: ignore[dict-item]
        for text in re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    ]
    check(packaged)
    assert own.evaluator.metrics() == {"accuracy", "loss"}
    rows = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    known = {name.replace("latency_ms", "") if "raspi4" not in name else name for name in NAS_BENCH.metrics()}
    assert known <= told


def test_the_packaged_file_is_the_published_one(bench: tuple[pd.DataFrame, TabularConfig]) -> None:
    pd.testing.assert_frame_equal(pd.read_parquet(tables.path("nas-bench-201")), bench[0])
