"""`nas latency`: what networks of a space take, measured here or on a device."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.commands.draw import Named, architecture
from nas.commands.show import fail, faults_told, print_json, say, short, table
from nas.commands.spaces import Json, Source, load

if TYPE_CHECKING:
    from nas.evaluators.latency import Gauge, LatencySettings


def latency(
    space: Source,
    values: Named = None,
    n: Annotated[int, typer.Option("-n", min=1, max=10_000, help="networks")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="draws what the values leave open")] = 0,
    runtime: Annotated[str, typer.Option(help="onnxruntime or torch; torch runs floats")] = "onnxruntime",
    threads: Annotated[int, typer.Option(help="kept on as many cores")] = 1,
    batch: Annotated[int, typer.Option(help="examples in one run; latency is that of the run")] = 1,
    seconds: Annotated[float, typer.Option(help="for one measurement after the first run, at most")] = 10.0,
    reference_ms: Annotated[
        float | None,
        typer.Option(help="what the reference network counts for; by default what it took here first"),
    ] = None,
    device: Annotated[str | None, typer.Option(help="a device of NAS_DEVICES measures, and not this host")] = None,
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="measurements of each network")] = 1,
    json: Json = False,
) -> None:
    """Measure latency: one network at a time, repeated until its 95 % interval is within 3 %, drift corrected."""
    from nas.evaluators.infeasible import Infeasible
    from nas.latency.hosts import too_many
    from search_spaces import BuildError, SpecError

    with faults_told(json):
        settings = _settings(
            runtime=runtime,
            threads=threads,
            batch=batch,
            seconds=seconds,
            reference_ms=reference_ms,
            device=device,
        )
        found = load(space)
        if device is None and (faults := too_many(threads)):
            raise SpecError(faults)
        gauge = settings.gauge(found)
        archs = {a.key: a for a in (architecture(found, values or [], seed, i) for i in range(n))}
    if len(archs) < n:
        say(f"{len(archs)} of {n} networks are different; these are measured")
    try:
        with faults_told(json):
            rounds = [[gauge.measurement(a) for a in archs.values()] for _ in range(repeats)]
    except (Infeasible, BuildError) as error:
        fail(str(error))
    measurements = [list(of) for of in zip(*rounds, strict=True)]
    if json:
        print_json(_dump(gauge, list(archs.values()), measurements))
        return
    rows = [
        [*_figures(of), gauge.space.cost(arch)["macs"], short(arch)]
        for arch, of in zip(archs.values(), measurements, strict=True)
    ]
    spread = "±" if repeats == 1 else "standard deviation"
    table(["latency_ms", spread, "macs", "architecture"], rows)
    if (tau := agreement(measurements)) is not None:
        typer.echo(f"Kendall's tau between repeats: {tau:.3f} in the mean")


def agreement(measurements: Sequence[Sequence[dict[str, Any]]]) -> float | None:
    """Kendall's tau between repeated measurements of networks, the mean over all pairs of repeats.

    None for a single repeat or network.
    """
    from itertools import combinations

    from scipy.stats import kendalltau

    repeats = list(zip(*([m["latency_ms"] for m in of] for of in measurements), strict=True))
    if len(repeats) < 2 or len(measurements) < 2:
        return None
    return statistics.fmean(float(kendalltau(a, b).statistic) for a, b in combinations(repeats, 2))


def _settings(**given: object) -> LatencySettings:
    """The same settings as in a document. Raises `SpecError`."""
    from pydantic import ValidationError

    from nas.evaluators.latency import LatencySettings
    from search_spaces.faults import spec_error

    try:
        return LatencySettings.model_validate(given)
    except ValidationError as error:
        raise spec_error(error, LatencySettings, given) from None


def _figures(of: Sequence[dict[str, Any]]) -> tuple[float, float | str]:
    """The mean and, of one measurement its interval, of several their standard deviation."""
    found = [m["latency_ms"] for m in of]
    if len(found) > 1:
        return statistics.fmean(found), statistics.stdev(found)
    return found[0], of[0].get("latency_interval_ms", "")


def _dump(gauge: Gauge, archs: Sequence[Any], measurements: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    networks = [
        {"key": arch.key, "values": dict(arch), "costs": gauge.space.cost(arch), "measurements": list(of)}
        for arch, of in zip(archs, measurements, strict=True)
    ]
    return {"space": gauge.space.name, "networks": networks, "kendall_tau": agreement(measurements)}
