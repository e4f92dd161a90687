"""Documents that several kinds of tests use."""

from typing import Any

from nas.deploy.card import Check, Data, FileFacts, Metric, ModelCard, Training
from nas.deploy.surroundings import Surroundings

CELLS: dict[str, Any] = {
    "name": "cells",
    "space": "nas-bench-201",
    "objectives": ["max macs", "min params"],
    "constraints": ["params <= 5e5"],
    "searcher": "random",
    "evaluator": "cost",
    "budget": {"max_trial_count": 10},
    "seed": 3,
}
"""Free trials; some sampled cells break the constraint."""

DIGITS: dict[str, Any] = {
    "name": "small digits",
    "space": "digits-tiny",
    "objectives": ["max accuracy"],
    "searcher": "random",
    "evaluator": {"kind": "training", "epochs": 1},
    "budget": {"max_trial_count": 1},
}
"""One network, trained in a second."""

HERE = Surroundings({"torch": "2.9"}, {"processor": "x"})

A_CARD = ModelCard(
    name="digits, trial 7",
    file=FileFacts("model.onnx", "onnx", 12345, "ab" * 32),
    job="job-1",
    trial=7,
    key="0123456789abcdef",
    created_at="2026-11-21T16:00:00.000Z",
    architecture={"stages.0.depth": 2, "recipe.learning_rate": 0.02, "stages.0.block": "conv"},
    policy={"stem": {"weight": 8, "activation": 8}, "classifier": {"weight": "ternary", "activation": 32}},
    training=Training("trained again", 1077, ("train",), 15, 0, 2.5, "cpu", {"optimizer": "adamw"}, HERE),
    metrics=(Metric("accuracy", 0.975, "on the validation part"),),
    verification=(Check("accuracy", 0.975, "0.97 to 0.98", True),),
    data=Data("digits", "cd" * 32, (1, 8, 8), 10, {"train": 1077, "validation": 359, "test": 359}),
    spec={"name": "digits"},
    written_with=HERE,
    software_licence="Apache-2.0",
)
"""The model card of an exported network."""
