"""How fast we are, beside peers in the same run. `python -m benchmarks` prints what docs/results.md quotes."""
