"""Search again with another wish, or for longer training, and begin with what is known already.

    python examples/warm_start.py

Networks are looked up in the table of NAS-Bench-201, so this takes seconds. A search for one device takes over all
trials of a search for another: both have the same evaluator, so they need only be judged anew. Of a search that
trained for 12 epochs instead of 200 the eight best networks are measured first.
"""

import nas

TABLE = {"kind": "tabular", "table": "nas-bench-201"}
SHORT = {**TABLE, "metrics": {"accuracy": "accuracy_12ep"}}
FULL = {**TABLE, "metrics": {"accuracy": "accuracy"}}
REFERENCE = [0.5, 30.0]
"""Accuracy and milliseconds against which hypervolumes are measured."""


def search(device: str, trials: int, **more: object) -> nas.SearchResult:
    """A search for accurate networks that are fast on one device."""
    return nas.search(
        space="nas-bench-201",
        objectives=["max accuracy", f"min latency_ms_{device}"],
        executor="inline",
        max_trial_count=trials,
        **{"evaluator": TABLE, **more},
    )


def main() -> None:
    """Compare searches of 20 trials with and without a warm start."""
    cold = search("pixel3", 20)
    same = search("pixel3", 20, warm_start=[search("raspi4", 100, seed=1)])
    other = search("pixel3", 20, evaluator=FULL, warm_start=[search("pixel3", 100, evaluator=SHORT, seed=1)])
    for name, result in (("cold", cold), ("of another device", same), ("of shorter training", other)):
        taken = sum(t.taken_over for t in result.all_trials)
        anew = sum(t.origin is not None for t in result.all_trials) - taken
        print(f"{name:>20}: hypervolume {result.hypervolume(REFERENCE):.3f}, {taken} taken over, {anew} anew")


if __name__ == "__main__":
    main()
