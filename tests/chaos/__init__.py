"""The proof that nothing is lost under `kill -9`: real processes, random faults, and a witness that remembers.

`python -m tests.chaos` runs it; `storm.run` is the same from Python.
"""
