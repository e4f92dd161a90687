"""`make bench`: published networks rebuilt, import times, speed of search spaces, overhead of a trial."""

from benchmarks import imports, references, scheduling, spaces

references.main()
imports.main()
spaces.main()
scheduling.main()
