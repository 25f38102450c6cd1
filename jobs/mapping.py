"""Look at a delivery and print a mapping to begin with.

Reads   the first rows of one file of the delivery
Prints  a mapping with a comment for every decision; what it cannot tell is left empty

    fraud-scoring mapping --source ./bank --format csv > bank.toml
"""

from __future__ import annotations

from jobs.deliveries.proposal import propose
from jobs.deliveries.sample import read_sample


def run(source: str, file_format: str, name: str) -> str:
    """Return a commented mapping for a source.

    Raises:
        InputMissing: the source has no file of this format.
        UsageError: the file cannot be read in this format.
    """
    return propose(read_sample(source, file_format), name)
