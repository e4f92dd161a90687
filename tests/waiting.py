"""What tests of real processes share."""

import socket
import time
from collections.abc import Callable
from typing import Any


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(ready: Callable[[], Any], seconds: float = 90, what: str = "something") -> Any:
    """Wait for something true, and give it. Raises `TimeoutError`, so that a test fails instead of hanging."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = ready()
        if found:
            return found
        time.sleep(0.1)
    raise TimeoutError(f"waited {seconds:g} s in vain: {what}")
