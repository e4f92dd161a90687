"""Latency by measurement: alone, or beside what training gives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import override

from nas.config import Config, EvaluatorSettings
from nas.evaluators.infeasible import Infeasible
from nas.latency import devices, hosts
from nas.latency.asked import NoAnswer
from nas.latency.devices import Device
from nas.latency.protocol import Protocol, TooSlow
from nas.latency.runtimes import RuntimeName
from nas.remarks import remark
from nas.trial import Proposal
from search_spaces import Architecture, Fault, SpecError
from search_spaces.declared import DeclaredSpace
from search_spaces.space import Space

if TYPE_CHECKING:
    from nas.contracts import Report

PROTOCOL = Protocol()


class LatencySettings(Config):
    """How latency is measured: by a runtime on the worker's host, or on a device that the operator described."""

    runtime: RuntimeName = Field(default="onnxruntime", description="what runs the network; torch runs floats")
    threads: int = Field(default=1, ge=1, le=1024, description="threads, kept on as many cores")
    batch: int = Field(default=1, ge=1, le=65536, description="examples in one run; latency is that of the run")
    seconds: float = Field(
        default=PROTOCOL.seconds,
        gt=0,
        le=3600,
        description="for one measurement after the first run, at most; a network too slow for that is infeasible",
    )
    reference_ms: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="what the reference network counts for, so that numbers of several hosts have one unit; "
        "by default what it took on the host when that was first measured",
    )
    device: str | None = Field(
        default=None, description="a device of the operator, which takes the ONNX file and measures by itself"
    )

    @model_validator(mode="after")
    def _one_protocol(self) -> LatencySettings:
        ours = ("runtime", "threads", "batch", "seconds", "reference_ms")
        fields = LatencySettings.model_fields
        given = [name for name in ours if getattr(self, name) != fields[name].default]
        if self.device is not None and given:
            raise ValueError(f"{given[0]} is given beside device, which measures in its own way; give one of them")
        return self

    def gauge(self, space: Space) -> Gauge:
        """What measures networks of this space; the device's description is settled here.

        Raises:
            SpecError: as `faults` tells, and where the device's headers lack their environment variables here.
        """
        if faults := self.faults(space):
            raise SpecError(faults)
        assert isinstance(space, DeclaredSpace)
        device = devices.device(self.device) if self.device else None
        try:
            if device:
                device.credentials()
        except SpecError as error:
            told = error.under(str(self.device)).faults
            raise SpecError.at("device", "; ".join(map(str, told))) from None
        return Gauge(space, self, device)

    def given(self) -> frozenset[str]:
        """The metrics of a measurement."""
        return frozenset({"latency_ms"} if self.device else {"latency_ms", "latency_interval_ms"})

    def faults(self, space: Space) -> list[Fault]:
        """Whether networks of this space can be measured in this way. Loads neither torch nor a runtime."""
        if not isinstance(space, DeclaredSpace):
            return [Fault("", "latency cannot be measured in a space of one's own; those of documents can")]
        try:
            _ = self.device and devices.device(self.device)
        except SpecError as error:
            return [Fault("device", str(f)) for f in error.faults]
        return []


@dataclass(frozen=True)
class Gauge:
    """Measures networks of a space. Pickles; what it needs is loaded where it measures."""

    space: DeclaredSpace
    settings: LatencySettings
    device: Device | None

    def __call__(self, arch: Architecture) -> dict[str, float]:
        """The metrics of one more measurement; protocol, versions and the like become a line of the trial's log.

        Raises:
            Infeasible: where the device does not tell, or the network is too slow to be measured in its time.
            BuildError: where there is no such network.
            SpecError: where this host lacks cores, or the environment variables of the device's headers.
        """
        found = self.measurement(arch)
        remark(f"latency: {json.dumps(found)}")
        return {name: found[name] for name in sorted(self.settings.given())}

    def measurement(self, arch: Architecture) -> dict[str, Any]:
        """The same with all that belongs to the numbers, as JSON values."""
        return self._here(arch) if self.device is None else self._there(self.device, arch)

    def _here(self, arch: Architecture) -> dict[str, Any]:
        from nas.latency.measured import Setting, measured

        by = self.settings
        setting = Setting(by.runtime, by.threads, by.batch, by.reference_ms)
        try:
            return measured(self.space, arch, setting, Protocol(seconds=by.seconds)).dump()
        except TooSlow as error:
            raise Infeasible(f"latency: {error}; more seconds are needed") from None

    def _there(self, device: Device, arch: Architecture) -> dict[str, Any]:
        from nas.deploy.onnx_file import untrained_file

        name, file = self.settings.device, untrained_file(self.space, arch)
        try:
            with hosts.turn(f"of-{name}"):
                return {**device.ask(file), "device": name}
        except NoAnswer as error:
            raise Infeasible(f"device {name} {error}") from None
        except SpecError as error:
            raise error.under(f"device {name}") from None


class LatencyConfig(LatencySettings, EvaluatorSettings):
    """Measure the latency of each network, with random weights; nothing is trained."""

    kind: Literal["latency"] = "latency"

    @override
    def bind(self, space: Space, seed: int) -> LatencyEvaluator:
        """The evaluator."""
        return LatencyEvaluator(self.gauge(space))

    @override
    def metrics(self) -> frozenset[str]:
        """What every measurement gives."""
        return self.given()

    @override
    def faults(self, space: Space) -> list[Fault]:
        """Whether networks of this space can be measured in this way."""
        return [Fault(f.path or "kind", f.message) for f in LatencySettings.faults(self, space)]


@dataclass(frozen=True)
class LatencyEvaluator:
    """Each call measures anew, so repeats do."""

    gauge: Gauge

    def evaluate(self, proposal: Proposal, report: Report) -> Mapping[str, float]:
        """`latency_ms`, and on this host `latency_interval_ms`, half of its 95 % confidence interval.

        Raises:
            Infeasible: where the device does not tell, or the network is too slow to be measured in its time.
        """
        return self.gauge(proposal.architecture)
