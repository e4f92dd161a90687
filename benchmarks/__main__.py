"""`make bench`: import times, then the scheduling overhead of a trial."""

from benchmarks import imports, scheduling

imports.main()
scheduling.main()
