"""A trained network as a file: its weights in floating point, the grids of its activations, and how it fared."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from nas.deploy.surroundings import Surroundings
from nas.evaluators.training import Trained
from search_spaces import Architecture
from search_spaces.declared import DeclaredSpace

Part: TypeAlias = Literal["validation", "test"]


@dataclass(frozen=True)
class Checkpoint:
    """A trained network, and what it reached on the part of the data that it was held against."""

    trained: Trained
    seed: int
    part: Part
    """Examples that the network was not trained on."""
    accuracy: float
    """On that part (0..1), quantized."""
    made_with: Surroundings
    """Where it was trained."""


def trial_checkpoint(number: int) -> str:
    """The artifact that has the network of a trial, as the trial trained it."""
    return f"checkpoints/trial-{number}.pt"


def final_checkpoint(number: int, run: int) -> str:
    """The artifact that has a run of a trial's network on all data but the test part."""
    return f"checkpoints/trial-{number}-final-{run}.pt"


def written(checkpoint: Checkpoint, arch: Architecture) -> bytes:
    """The content of a file that `read` reads, and ``torch.load(..., weights_only=True)``."""
    import torch

    trained, network = checkpoint.trained, checkpoint.trained.network
    content = {
        "key": arch.key,
        "weights": {name: value.cpu() for name, value in network.model.state_dict().items()},
        "grids": {name: [grid.scale, grid.zero, grid.bits] for name, grid in network.grids.items()},
        "seconds": trained.seconds,
        "epochs": trained.epochs,
        "examples": trained.examples,
        "device": trained.device,
        "seed": checkpoint.seed,
        "part": checkpoint.part,
        "accuracy": checkpoint.accuracy,
        "versions": dict(checkpoint.made_with.versions),
        "hardware": dict(checkpoint.made_with.hardware),
    }
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def read(content: bytes, space: DeclaredSpace, arch: Architecture) -> Checkpoint:
    """The checkpoint in a file that `written` made.

    Raises:
        ValueError: for any other file, and for one of another architecture.
    """
    import torch

    try:
        found = torch.load(io.BytesIO(content), weights_only=True)
        key = found["key"]
        checkpoint = _checkpoint(found, space, arch) if key == arch.key else None
    except Exception as error:  # torch raises anything for what is no file of its own
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"it cannot be read: {type(error).__name__}: {reason}") from None
    if checkpoint is None:
        raise ValueError(f"it is of architecture {key}, not {arch.key}")
    return checkpoint


def _checkpoint(found: Mapping[str, Any], space: DeclaredSpace, arch: Architecture) -> Checkpoint:
    """Raises whatever a wrong content brings about."""
    from nas.evaluators.quantize import Grid, Quantized, frozen
    from predictors.threads import seeded_torch

    policy = space.policy(arch)
    with seeded_torch(0):  # the weights are thrown away; whoever draws beside us goes on as before
        model = frozen(space.build(arch), policy)
    model.load_state_dict(found["weights"])
    network = Quantized(model, policy, {name: Grid(*grid) for name, grid in found["grids"].items()})
    trained = Trained(network, found["seconds"], found["epochs"], found["examples"], found["device"])
    made_with = Surroundings(found["versions"], found["hardware"])
    return Checkpoint(trained, found["seed"], found["part"], found["accuracy"], made_with)
