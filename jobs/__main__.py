"""`python -m jobs`, the same as `fraud-scoring`."""

from jobs.cli import main

main()
