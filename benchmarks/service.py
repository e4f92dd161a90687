"""The service under load, beside Optuna's storage where that does the same: ``python -m benchmarks.service``.

On SQLite, and on PostgreSQL where NAS_TEST_POSTGRES_URL names a server: durable trials a second through the whole
line (claim, ask, open, evaluate, close, tell) with an evaluator that only computes formulas; how long the API
takes to answer for a job of 100,000 trials; what 200 listeners cost the runner of a job; the API's memory.

Everything shares the machine, and what is written waits for the disk: so CPU time stands beside wall time, and
trials one by one come first, before anything has filled the disk's queues.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

import nas
from benchmarks.figures import Figure, table
from benchmarks.serving import PATIENCE, Api, api, databases, listeners
from nas import runner
from nas.contracts import Report
from nas.job import JobSpec
from nas.runner import Study
from nas.storage import open_store
from nas.trial import Measured, Proposal, Trial

if TYPE_CHECKING:
    from nas.storage.sql import SqlStore

SPACE = "digits-tiny"
RATES = {1: 300.0, 16: 1000.0}
"""Durable trials a second that are wanted, by how many are open at once."""
EVALUATION = 0.005
"""Seconds of a trial whose job has listeners: its runner waits more than it computes."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    trials: int = 5_000
    """Of a job whose trials are evaluated one by one."""
    jobs: int = 3
    """As many of them."""
    batched: int = 100_000
    """Of a job whose trials are evaluated in batches."""
    peer_trials: int = 100
    measured: int = 100_000
    """Trials of the job that the API is asked about."""
    requests: int = 200
    fresh: int = 5
    """Processes of the API, each asked for its first front."""
    listeners: int = 200
    followed: int = 1_000
    """Trials of a job that they follow."""
    rounds: int = 3
    """Jobs without listeners and with them, in turn."""


def figures(sizes: Sizes) -> Iterator[Figure]:
    """Everything, on every database that there is."""
    with databases(3) as found:
        for parallel in RATES:
            for database, (ours, peers, _) in found.items():
                yield from rates(database, ours, peers, parallel, sizes)
        for database, (_, _, served) in found.items():
            yield from answers(database, served, sizes)


def rates(database: str, ours: str, peers: str, parallel: int, sizes: Sizes) -> Iterator[Figure]:
    """Trials a second, ours (one by one: the median of some jobs) and Optuna's."""
    count, how = (sizes.trials, "one by one") if parallel == 1 else (sizes.batched, f"in batches of {parallel}")
    runs = []
    for _ in range(sizes.jobs if parallel == 1 else 1):
        with submitted(ours, count, parallel) as (store, job_id):
            runs.append(driven(store, job_id))
    runs.sort(key=rate)
    at = runs[len(runs) // 2]
    wall, cpu = rate(at)
    yield Figure(database, f"{count:,} trials {how}", wall, "/s", cpu, least=RATES[parallel])
    if len(runs) > 1:
        slowest, slowest_cpu = rate(runs[0])
        yield Figure(database, f"  slowest of {len(runs)} jobs", slowest, "/s", slowest_cpu)
    tenth = max(1, count // 10)
    (first, first_cpu), (last, last_cpu) = rate(at[: tenth + 1]), rate(at[-tenth - 1 :])
    yield Figure(database, f"  last / first {tenth:,}", last / first, "", last_cpu / first_cpu)
    peer, peer_cpu = rate(optuna_trials(peers, parallel, sizes.peer_trials))
    yield Figure(database, f"  {sizes.peer_trials:,} trials of Optuna, ask and tell", peer, "/s", peer_cpu)
    yield Figure(database, "  ours / Optuna", wall / peer, "", cpu / peer_cpu)


Clocks = tuple[float, float]
"""Seconds of wall time and of this process's CPU time."""


def clocks() -> Clocks:
    return time.perf_counter(), time.process_time()


def rate(at: Sequence[Clocks]) -> Clocks:
    """Trials a second by both clocks, read before the first trial and after each."""
    wall, cpu = (max(last - first, 1e-9) for first, last in zip(at[0], at[-1], strict=True))
    return (len(at) - 1) / wall, (len(at) - 1) / cpu


@contextmanager
def submitted(url: str, trials: int, parallel: int = 1) -> Iterator[tuple[SqlStore, str]]:
    """A store with a new job."""
    spec = JobSpec.parse(
        {
            "name": "load",
            "space": SPACE,
            "objectives": ["min params", "min macs"],
            "searcher": "random",
            "evaluator": "cost",
            "budget": {"max_trial_count": trials, "parallel_trial_count": parallel},
        }
    )
    store = open_store(url)
    try:
        yield store, store.submit(spec).id
    finally:
        store.close()


def driven(store: SqlStore, job_id: str, pause: float = 0.0) -> list[Clocks]:
    """Run a job to its end; the clocks before it and after each of its trials was written."""
    at = [clocks()]
    lease = store.claim(job_id)
    assert lease is not None
    study = Study.of(store.job(job_id).spec)
    if pause:
        study = Study(study.spec, study.space, study.searcher, Pause(pause))

    def observe(trials: Sequence[Trial]) -> None:
        now = clocks()
        at.extend(now for t in trials if not t.state.open)

    runner.run(lease, "inline", study=study, observe=observe)
    return at


@dataclass(frozen=True)
class Pause:
    """An evaluator that only takes its time."""

    seconds: float

    def evaluate(self, proposal: Proposal, report: Report) -> Mapping[str, float]:
        """Nothing beyond the formulas."""
        time.sleep(self.seconds)
        return {}


def optuna_trials(url: str, parallel: int, count: int) -> list[Clocks]:
    """As `driven`, of Optuna's random sampler; so many trials are asked for before they are told."""
    import optuna

    optuna.logging.set_verbosity(logging.ERROR)
    storage = optuna.storages.RDBStorage(url.replace("postgresql:", "postgresql+psycopg:"))
    study = optuna.create_study(
        storage=storage,
        sampler=optuna.samplers.RandomSampler(seed=0),
        directions=["minimize", "minimize"],
    )
    choices = nas.load_space(SPACE).choices
    drawn: dict[str, optuna.distributions.BaseDistribution] = {
        c.name: optuna.distributions.CategoricalDistribution(list(c.values)) for c in choices
    }
    at = [clocks()]
    while len(at) <= count:
        for trial in [study.ask(drawn) for _ in range(min(parallel, count + 1 - len(at)))]:
            study.tell(trial, [1.0, 2.0])
            at.append(clocks())
    storage.engine.dispose()
    return at


def answers(database: str, url: str, sizes: Sizes) -> Iterator[Figure]:
    """Times of the API's answers, what listeners cost, and the memory of a process that did all that."""
    job_id = filled(url, sizes.measured)
    front = f"/v1/jobs/{job_id}/pareto-front"
    cold = []
    for _ in range(sizes.fresh):
        with api(url) as served:
            cold.append(served.timed(front))
    yield slow(database, f"first front of {sizes.measured:,} trials", cold, 500)
    with api(url) as served:
        served.timed(front)
        again = [served.timed(front) for _ in range(sizes.requests)]
        yield slow(database, "the same front again", again, 50)
        for how, queries in depths(served, job_id, sizes).items():
            read = [served.timed(f"/v1/jobs/{job_id}/trials", page_size=100, **query) for query in queries]
            yield slow(database, f"100 trials {how}", read, 30)
        yield Figure(database, "memory of the API by then", served.megabytes, "MB", most=150)
        yield from followed(database, url, served, sizes)
        yield Figure(database, "memory of the API after all", served.megabytes, "MB", most=150)


def slow(database: str, what: str, times: Sequence[Clocks], most: float) -> Figure:
    """The 95th percentile of milliseconds, and the mean of CPU time, which the system counts in hundredths."""
    wall, cpu = np.array(times).T
    return Figure(database, f"{what}, p95", float(np.percentile(wall, 95)), "ms", float(cpu.mean()), most=most)


def depths(served: Api, job_id: str, sizes: Sizes) -> dict[str, list[dict[str, str | int]]]:
    """Queries of trials at random depths: by number, and by the order in which they finished."""
    rng = random.Random(0)
    tokens, more = [], ""
    while more is not None:
        query: dict[str, str | int] = {"page_size": 1000, **({"page_token": more} if more else {})}
        answer = served.client.get(f"/v1/jobs/{job_id}/trials", params=query)
        more = answer.raise_for_status().json()["next_page_token"]
        tokens.append(more)
    return {
        "by page_token": [{"page_token": token} for token in rng.choices(tokens[:-1], k=sizes.requests)],
        "by after": [{"after": rng.randrange(sizes.measured)} for _ in range(sizes.requests)],
    }


def filled(url: str, count: int) -> str:
    """The id of a job with so many measured trials, written at once."""
    spec = JobSpec.parse(
        {"name": "filled", "space": SPACE, "objectives": ["max accuracy", "min latency_ms"], "evaluator": "cost"}
    )
    rng = np.random.default_rng(0)
    size = rng.normal(size=count)
    accuracy, latency = 1 / (1 + np.exp(-size - rng.normal(size=count))), np.exp(size)
    metrics = [
        {"accuracy": a, "latency_ms": ms, "params": 1000 + i}
        for i, (a, ms) in enumerate(zip(accuracy.tolist(), latency.tolist(), strict=True))
    ]
    trials = [
        Trial(i, Proposal(arch)).close(Measured(measured), spec.problem, i, float(i))
        for i, (arch, measured) in enumerate(zip(nas.load_space(SPACE).sample(count, 0), metrics, strict=True))
    ]
    store = open_store(url)
    try:
        return store.submit(spec, queued=False, trials=trials).id
    finally:
        store.close()


def followed(database: str, url: str, served: Api, sizes: Sizes) -> Iterator[Figure]:
    """How much slower a runner is while many follow its job; jobs without and with listeners take turns."""
    alone, heard, spent, ended = [], [], 0.0, 0
    for _ in range(sizes.rounds):
        with submitted(url, sizes.followed) as (store, job_id):
            alone.append(rate(driven(store, job_id, EVALUATION)))
        before = served.spent()
        with (
            submitted(url, sizes.followed) as (store, job_id),
            listeners(served.port, job_id, sizes.listeners) as them,
        ):
            heard.append(rate(driven(store, job_id, EVALUATION)))
            ended += them.recv() if them.poll(PATIENCE) else 0
        spent += served.spent() - before
    (free, free_cpu), (slowed, slowed_cpu) = np.mean(alone, axis=0), np.mean(heard, axis=0)
    took = f"trials of {EVALUATION * 1e3:g} ms"
    yield Figure(database, f"{took}, nobody listens", free, "/s", free_cpu)
    yield Figure(database, f"{took}, {sizes.listeners} listen", slowed, "/s", slowed_cpu)
    yield Figure(
        database, "  slower by", 100 * (1 - slowed / free), "%", 100 * (1 - slowed_cpu / free_cpu), most=5
    )
    told = sizes.rounds * sizes.listeners
    yield Figure(database, "  listeners told of the end", 100 * ended / told, "%", least=100)
    yield Figure(
        database,
        "  the API's CPU time meanwhile",
        100 * spent * np.mean(slowed) / (sizes.rounds * sizes.followed),
        "%",
    )


def main() -> None:
    """Measure, and print the table; missed figures are marked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in asdict(Sizes()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    parser.add_argument("--json", type=Path, help="file for all figures")
    options = vars(parser.parse_args())
    file = options.pop("json")
    before, found = os.getloadavg()[0], list(figures(Sizes(**options)))
    Console().print(table("The service under load", "database", found, before))
    if file:
        file.write_text(json.dumps([asdict(f) for f in found], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
