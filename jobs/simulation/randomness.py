"""Random numbers without state: a hash of (seed, purpose, keys), converted to a number.

Spark's `rand` depends on the partition of a row. A hash does not, so the values of a row do not
depend on the partitions. Draws with different purposes are independent. The cost is one xxhash64
per draw, about 20 ns.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F

# A double holds 53 bits; the hash has 64.
SURPLUS_BITS = 11
STEP = 2.0**-53


@dataclass(frozen=True)
class Draws:
    """Random draws of one simulation. Keys are integer columns that identify a draw."""

    seed: int

    def key(self, purpose: str, *keys: Column) -> Column:
        """Return 64 random bits as a long."""
        digest = hashlib.blake2b(f"{self.seed}/{purpose}".encode(), digest_size=8).digest()
        salt = int.from_bytes(digest, "big", signed=True)
        # xxhash64 gives an int and a long of equal value different hashes, so all keys are longs.
        return F.xxhash64(F.lit(salt).cast("long"), *(key.cast("long") for key in keys))

    def uniform(self, purpose: str, *keys: Column) -> Column:
        """Draw a double in [0, 1)."""
        return F.shiftrightunsigned(self.key(purpose, *keys), SURPLUS_BITS) * F.lit(STEP)

    def between(self, purpose: str, low: float, high: float, *keys: Column) -> Column:
        """Draw a double in [low, high)."""
        return self.uniform(purpose, *keys) * F.lit(high - low) + F.lit(low)

    def whole(self, purpose: str, low: int, high: int, *keys: Column) -> Column:
        """Draw a long from low to high, both included."""
        return F.floor(self.between(purpose, low, high + 1, *keys))

    def happens(self, purpose: str, probability: float, *keys: Column) -> Column:
        """Draw true with this probability."""
        return self.uniform(purpose, *keys) < F.lit(probability)

    def normal(self, purpose: str, *keys: Column) -> Column:
        """Draw a standard normal value (Box and Muller, 1958)."""
        radius = F.sqrt(F.lit(-2.0) * F.log(F.lit(1.0) - self.uniform(f"{purpose}/radius", *keys)))
        return radius * F.cos(F.lit(2 * math.pi) * self.uniform(f"{purpose}/angle", *keys))

    def identifier(self, purpose: str, *keys: Column) -> Column:
        """Return an id of 24 hexadecimal digits for a combination of keys.

        It has 96 bits: the probability of a collision among ten billion ids is 1e-9.
        """
        high = F.lpad(F.hex(self.key(f"{purpose}/high", *keys)), 16, "0")
        low = F.lpad(F.hex(self.key(f"{purpose}/low", *keys)), 16, "0")
        return F.lower(F.concat(high, F.substring(low, 1, 8)))
