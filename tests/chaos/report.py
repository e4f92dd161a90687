"""What a run shows: faults survived, and every promise that was broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.chaos.jobs import found, undisturbed, worker_alone
from tests.chaos.witness import OPEN, Seen


@dataclass
class Report:
    """One run on one database."""

    database: str
    seed: int
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    """By kind."""
    spared: Counter[str] = field(default_factory=Counter)
    """Faults drawn that would have broken more than is promised, by kind; others came in their place."""
    in_work: int = 0
    """Of the faults of runners, those that met one which had claimed a job."""
    jobs: int = 0
    trials: int = 0
    retried: int = 0
    """Trials that were started more than once."""
    undisturbed: int = 0
    """Jobs with one worker whose trials were compared with an undisturbed search."""
    writes: int = 0
    """Writes of trials, in the database's own book."""
    leases_lost: int = 0
    """Runners that woke up, or came back, to find their job with another one."""
    answers: Mapping[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        """Whether every promise was kept."""
        return not self.violations

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        counted = {"faults": dict(self.faults), "spared": dict(self.spared)}  # `asdict` would count their items
        return {**asdict(self), **counted, "fault_count": self.faults.total(), "kept": self.kept}

    def __str__(self) -> str:
        kinds = ", ".join(f"{n} {kind}" for kind, n in self.faults.most_common())
        answers = ", ".join(f"{n} x {status}" for status, n in sorted(self.answers.items()))
        lines = [
            f"{self.database} (seed {self.seed}): {self.faults.total()} faults in {self.seconds:.0f} s",
            f"  faults    {kinds or 'none'}; {self.in_work} met a runner with jobs",
            f"  spared    {', '.join(f'{n} {kind}' for kind, n in self.spared.items() if n) or 'none'}",
            f"  jobs      {self.jobs}, with {self.trials} trials, {self.retried} of them started more than once",
            f"  leases    {self.leases_lost} found lost by runners that came back",
            f"  compared  {self.undisturbed} jobs of one worker with an undisturbed search; {self.writes} writes",
            f"  answers   {answers}",
            *(f"  remark    {remark}" for remark in self.remarks),
            *(f"  BROKEN    {violation}" for violation in self.violations[:40]),
            f"  verdict   {'every promise kept' if self.kept else f'{len(self.violations)} promises broken'}",
        ]
        return "\n".join(lines)


def judged(job_id: str, seen: Seen) -> Iterable[str]:
    """What is wrong with a job at the end."""
    told = f"job {job_id} ({seen.document['name']})"
    if seen.state != "SUCCEEDED":
        yield f"{told} ended {seen.state}: {seen.reason}"
        return
    numbers = [t["number"] for t in seen.last]
    count = seen.document["budget"]["max_trial_count"]
    if numbers != list(range(count)):
        yield f"{told}: trial numbers are not 0..{count - 1} once each: {_odd(numbers, count)}"
    orders = sorted(t["order"] if t["order"] is not None else -1 for t in seen.last)
    if orders != list(range(count)):
        yield f"{told}: finish orders are not 0..{count - 1} once each: {_odd(orders, count)}"
    for trial in seen.last:
        if trial["state"] in (*OPEN, "FAILED", "CANCELLED"):
            yield f"{told}: trial {trial['number']} is {trial['state']}: {trial.get('reason')}"
    if worker_alone(seen.document):
        yield from _differences(told, seen)


def _differences(told: str, seen: Seen) -> Iterable[str]:
    expected = undisturbed(seen.document)
    actual = {t["number"]: found(t) for t in seen.last}
    different = [n for n in sorted(expected | actual) if expected.get(n) != actual.get(n)]
    if different:
        n = different[0]
        yield (
            f"{told}: {len(different)} trials are not those of an undisturbed search; the first, {n}, "
            f"is {actual.get(n)} instead of {expected.get(n)}"
        )


def _odd(values: list[int], count: int) -> str:
    often = Counter(values)
    missing = [n for n in range(count) if n not in often][:10]
    twice = [n for n, times in often.items() if times > 1][:10]
    return f"{len(values)} of them, missing {missing}, more than once {twice}"
