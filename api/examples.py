"""Examples for the OpenAPI document: what clients may send, and what they get. Each is checked by a test."""

from __future__ import annotations

from typing import Any

from nas.exports import Export, ExportSpec
from nas.fitted import FittedPredictor
from nas.job import Job, JobSpec, JobState
from nas.pareto import ParetoFront
from nas.trial import Measured, Proposal, Trace, Trial, TrialState
from nas.wire import (
    export_dict,
    front_dict,
    job_dict,
    predictor_dict,
    readable,
    space_dict,
    space_summary,
    trace_dict,
    trial_dict,
)
from search_spaces import load_space, presets
from search_spaces.declared import DeclaredSpace

AT = 1_795_209_425.25
"""When the examples happen: Unix time, seconds."""

_CELL = {
    "edge_0_1": "nor_conv_3x3",
    "edge_0_2": "skip_connect",
    "edge_1_2": "nor_conv_1x1",
    "edge_0_3": "none",
    "edge_1_3": "avg_pool_3x3",
    "edge_2_3": "nor_conv_3x3",
}
"""An architecture of nas-bench-201."""

EXAMPLES: dict[str, dict[str, dict[str, Any]]] = {
    "JobSpec": {
        "joint": {
            "summary": "Architecture, quantization and recipe together, on a preset",
            "value": {
                "name": "digits-tiny",
                "space": "digits-tiny",
                "objectives": ["max accuracy", "min model_size_bytes"],
                "constraints": ["model_size_bytes <= 100e3"],
                "searcher": {"kind": "predictor_guided"},
                "evaluator": {"kind": "training", "dataset": "digits", "epochs": 5},
                "budget": {"max_trial_count": 60, "parallel_trial_count": 2},
                "seed": 0,
            },
        },
        "cost": {
            "summary": "Formulas alone: nothing is trained",
            "value": {
                "name": "smallest-cells",
                "space": "nas-bench-201",
                "objectives": ["min params", "max macs"],
                "searcher": "random",
                "evaluator": "cost",
                "budget": {"max_trial_count": 20},
            },
        },
    },
    "SpaceOrName": {
        "staged": {
            "summary": "Two stages of blocks for images of 28 x 28",
            "value": {
                "family": "staged",
                "input": [1, 28, 28],
                "classes": 10,
                "architecture": {
                    "stem": {"width": [8, 16]},
                    "stages": [
                        {"block": "conv", "depth": {"min": 0, "max": 2}, "width": [16, 32], "stride": 2},
                        {"block": ["inverted_residual", "conv"], "depth": [1, 2], "width": 64, "stride": 2},
                    ],
                },
                "quantization": {"per": "stage", "weight_bits": [4, 8, 32]},
                "recipe": {"learning_rate": {"min": 0.001, "max": 0.1, "scale": "log", "levels": 5}},
            },
        },
        "preset": {"summary": "A space by its name", "value": "nas-bench-201"},
    },
    "JobPatch": {
        "longer": {
            "summary": "Search on: more trials, four at a time",
            "value": {"budget": {"max_trial_count": 200, "parallel_trial_count": 4}},
        },
        "unlimited": {"summary": "Take a limit away", "value": {"budget": {"max_duration": None}}},
    },
    "JobClone": {
        "seed": {
            "summary": "The same search by another seed",
            "value": {"name": "digits-tiny, seed 1", "seed": 1},
        },
        "searcher": {"summary": "By another searcher", "value": {"searcher": "random"}},
    },
    "SpaceCostQuery": {
        "cells": {
            "summary": "Two architectures of a preset",
            "value": {
                "space": "nas-bench-201",
                "architectures": [_CELL, dict.fromkeys(_CELL, "skip_connect")],
            },
        }
    },
    "PredictorSpec": {
        "all": {
            "summary": "From all trials that have finished by now",
            "value": {"job": "6489a1f2c3d4e5b6a7"},
        },
        "some": {
            "summary": "Two metrics, from the first 200 trials",
            "value": {"job": "6489a1f2c3d4e5b6a7", "metrics": ["accuracy", "train_seconds"], "trials": 200},
        },
    },
    "ExportSpec": {
        "onnx": {
            "summary": "The network of trial 4 as an ONNX file",
            "value": {"job": "6489a1f2c3d4e5b6a7", "trial": 4},
        },
        "state": {
            "summary": "As a state dict, trained again, and what the model card says of the data",
            "value": {
                "job": "6489a1f2c3d4e5b6a7",
                "trial": 4,
                "format": "state",
                "weights": "retrained",
                "data_licence": "CC BY 4.0",
            },
        },
    },
    "Candidates": {
        "cell": {
            "summary": "One architecture of nas-bench-201",
            "value": {"architectures": [_CELL]},
        }
    },
}
"""Of request bodies: by the name of their schema, then as OpenAPI names them."""


def answers() -> dict[str, dict[str, Any]]:
    """Of answers, by the name of their schema."""
    spec = JobSpec.parse(EXAMPLES["JobSpec"]["joint"]["value"])
    counts = {TrialState.SUCCEEDED: 17, TrialState.INFEASIBLE: 1, TrialState.RUNNING: 2}
    job = job_dict(
        Job(
            id="6489a1f2c3d4e5b6a7",
            spec=spec,
            state=JobState.RUNNING,
            created_at=AT,
            started_at=AT + 1,
            counts=counts,
            project="vision",
            owner="ada",
            revision=1,
        )
    )
    drawn = _space("nas-bench-201").sample(2, seed=0)
    trial = trial_dict(_trial(spec), job["id"])
    predictor = FittedPredictor("6489a1f2c3d4f00d77", job["id"], ("accuracy",), 17, created_at=AT + 60)
    asked = ExportSpec.parse(EXAMPLES["ExportSpec"]["onnx"]["value"])
    export = Export("6489a1f2c3d4f11e88", asked, created_at=AT + 90).claimed(AT + 91).succeeded(AT + 97)
    return {
        "Job": job,
        "JobList": {"jobs": [job], "next_page_token": None},
        "Validated": {"spec": spec.dump(), "size": _space("digits-tiny").size},
        "Trial": trial,
        "TrialList": {"trials": [trial], "next_page_token": None},
        "TrialInFull": {**trial, **trace_dict(_TRACE)},
        "ParetoFront": front_dict(ParetoFront.of([_trial(spec)], spec.problem), job["id"], [0.0, 100e3]),
        "Space": space_dict(_space("nas-bench-201")),
        "SampledArchitectures": {"architectures": [{"architecture": readable(a), "key": a.key} for a in drawn]},
        "Costs": {"costs": [_space("nas-bench-201").cost(a) for a in drawn]},
        "SpaceList": {"spaces": [space_summary(_space(name)) for name in presets()]},
        "Problem": {
            "type": "about:blank",
            "title": "Unprocessable Entity",
            "status": 422,
            "code": "INVALID_ARGUMENT",
            "detail": "the document has 1 fault; the first: seed: is required",
            "faults": [{"path": "seed", "message": "is required"}],
        },
        "Predictor": predictor_dict(predictor),
        "PredictorList": {"predictors": [predictor_dict(predictor)], "next_page_token": None},
        "Export": export_dict(export),
        "ExportList": {"exports": [export_dict(export)], "next_page_token": None},
        "Predictions": {"predictions": [{"accuracy": {"mean": 0.913, "std": 0.011}}]},
        "Capabilities": _CAPABILITIES,
        "Health": {"status": "ok"},
    }


def _trial(spec: JobSpec) -> Trial:
    """A trial of the job."""
    space = _space("digits-tiny")
    (architecture,) = space.sample(1, seed=0)
    metrics = {"accuracy": 0.954, "loss": 0.171, "train_seconds": 1.82, **space.cost(architecture)}
    opened = Trial(4, Proposal(architecture), created_at=AT + 8)
    return opened.close(Measured(metrics), spec.problem, order=3, at=AT + 10)


_CAPABILITIES = {
    "version": "1.0.0",
    "searchers": ["nsga2", "predictor_guided", "random"],
    "evaluators": ["cost", "latency", "tabular", "training"],
    "families": ["cell", "mlp", "staged", "transformer"],
    "presets": ["digits-tiny", "nas-bench-201"],
    "datasets": ["digits"],
    "tables": ["nasbench201-cifar10"],
    "functions": [],
    "devices": ["phone"],
    "limits": {
        "max_body_bytes": 1_048_576,
        "max_yaml_bytes": 131_072,
        "max_depth": 64,
        "max_page_size": 1000,
        "max_architectures": 1000,
        "max_objectives": 5,
        "max_trial_count": 10_000_000,
        "max_warm_start_trials": 10_000,
    },
}
_TRACE = Trace("worker-3:4711", AT + 8.1, ((1, {"loss": 0.62}), (2, {"loss": 0.31})), "")


def _space(name: str) -> DeclaredSpace:
    space = load_space(name)
    assert isinstance(space, DeclaredSpace)
    return space
