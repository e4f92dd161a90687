"""Devices that the operator has described: each a command or an HTTP endpoint that times an ONNX file.

``NAS_DEVICES`` names a YAML or JSON file, a device by name::

    phone: {command: [python, phone.py, "{file}"], timeout: 120}
    board: {url: "http://10.0.0.7:9000/latency", headers: {Authorization: BOARD_TOKEN}}

The place ``{file}`` of a command is taken by the path of the file; without one the file comes on standard input.
An endpoint gets it by POST. Both answer JSON, ``{"latency_ms": 3.2}``. Headers name environment variables, so that
the file holds no secrets. Documents, also those over HTTP, can name a device and nothing else of it.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from nas.latency.asked import ALLOWED, NoAnswer, by_command, by_post
from search_spaces import Fault, SpecError
from search_spaces.faults import did_you_mean, show, spec_error
from search_spaces.load import read_document

VARIABLE = "NAS_DEVICES"
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
HEADER_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")


class Device(BaseModel):
    """How a device is asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        default=None, description="program and arguments; {file} stands for the path of the ONNX file"
    )
    url: Annotated[str, Field(pattern="^https?://[^/]+")] | None = Field(
        default=None, description="where the ONNX file is sent to, by POST"
    )
    headers: Mapping[str, str] = Field(
        default_factory=dict, description="of such requests: environment variables that hold them, by name"
    )
    timeout: float = Field(
        default=60, gt=0, allow_inf_nan=False, description="seconds until its whole answer is there"
    )

    @model_validator(mode="after")
    def _one_way(self) -> Device:
        if (self.command is None) == (self.url is None):
            raise ValueError("either command or url is needed, and not both")
        if self.headers and self.url is None:
            raise ValueError("headers are of an url; a command has none")
        return self

    @field_validator("headers", mode="before")
    @classmethod
    def _variables(cls, headers: object) -> object:
        """What stands for a variable's name may well be the secret itself, so it is shown nowhere."""
        if not isinstance(headers, Mapping):
            raise ValueError("is no mapping; allowed: names of environment variables, by header")
        for name, variable in headers.items():
            if not HEADER_NAME.fullmatch(str(name)):
                raise ValueError(f"{show(name)} is no name of a header")
            if not (isinstance(variable, str) and VARIABLE_NAME.fullmatch(variable)):
                raise ValueError(f"{name} needs the name of an environment variable; its value is given there")
        return headers

    def ask(self, file: bytes) -> dict[str, Any]:
        """What the device says of an ONNX file: `latency_ms`, finite and positive, and whatever else.

        Raises:
            NoAnswer: in words that tell what it did instead.
            SpecError: where a header's variable is not set here.
        """
        try:
            return _read(self._answer(file))
        except TimeoutError:
            raise NoAnswer(f"did not answer within {self.timeout:g} s") from None

    def credentials(self) -> dict[str, str]:
        """The headers, as the environment has them here; to be called early, so that nothing starts without them.

        Raises:
            SpecError: naming each header whose variable is not set here, or holds what cannot stand in one.
        """
        faults = [
            Fault(f"headers.{name}", found)
            for name, variable in self.headers.items()
            if (found := _unusable(variable))
        ]
        if faults:
            raise SpecError(faults)
        return {name: os.environ[variable] for name, variable in self.headers.items()}

    def _answer(self, file: bytes) -> bytes:
        if self.command:
            return by_command(self.command, file, self.timeout)
        assert self.url is not None
        return by_post(self.url, self.credentials(), file, self.timeout)


def devices() -> dict[str, Device]:
    """The devices of the file that `NAS_DEVICES` names; none where it is not set.

    Raises:
        SpecError: where the file cannot be read, with everything that is wrong with it.
    """
    path = os.environ.get(VARIABLE)
    try:
        return read(Path(path)) if path else {}
    except SpecError as error:
        raise error.under(VARIABLE) from None


def names() -> list[str]:
    """The devices that documents may name; none where their file cannot be read, which `devices` tells."""
    try:
        return list(devices())
    except SpecError:
        return []


def read(path: Path) -> dict[str, Device]:
    """The devices of a file. Raises `SpecError` with everything that is wrong with it."""
    try:
        document = read_document(path)
    except OSError as error:
        raise SpecError.at("", f"{path} cannot be read: {error.strerror}") from None
    found: dict[str, Device] = {}
    faults: list[Fault] = []
    for name, profile in document.items():
        try:
            if not NAME.fullmatch(str(name)):
                raise SpecError.at("", "is no name of a device; allowed: letters, digits, - and _, at most 64")
            found[str(name)] = _device(profile)
        except SpecError as error:
            faults += error.under(str(name)).faults
    if faults:
        raise SpecError(faults)
    return found


def device(name: str) -> Device:
    """The device of this name. Raises `SpecError` where there is none."""
    known = devices()
    if name in known:
        return known[name]
    there = f"there are: {', '.join(known)}" if known else f"there are none ({VARIABLE} names the file of them)"
    raise SpecError.at("", f"{show(name)} is no device; {there}{did_you_mean(name, list(known))}")


def _device(profile: object) -> Device:
    try:
        return Device.model_validate(profile)
    except ValidationError as error:
        raise spec_error(error, Device, profile) from None


def _unusable(variable: str) -> str | None:
    """Why a variable cannot fill a header, if so; without its value and its name: either may be a secret."""
    if variable not in os.environ:
        return "names an environment variable that is not set here"
    if not HEADER_VALUE.fullmatch(os.environ[variable]):
        allowed = "allowed: printable ASCII characters, no space at either end"
        return f"names an environment variable whose value cannot stand in a header; {allowed}"
    return None


def _read(answer: bytes) -> dict[str, Any]:
    """The answer, if it is one."""
    try:
        found = json.loads(answer)
        latency = found["latency_ms"]
        if isinstance(latency, bool | str):
            raise TypeError
        number = float(latency)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError, OverflowError):
        raise NoAnswer(f"answered {show(answer.decode(errors='replace'))}; allowed: {ALLOWED}") from None
    if not (math.isfinite(number) and number > 0):
        raise NoAnswer(f"answered a latency of {number:g} ms; allowed: {ALLOWED}")
    return {**found, "latency_ms": number}
