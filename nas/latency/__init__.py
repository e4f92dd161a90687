"""What a network takes on a device, measured: a protocol, runtimes of this host, and devices of the operator."""
