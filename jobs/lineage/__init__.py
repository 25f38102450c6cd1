"""Which runs and table versions produced a score, and whether it can be reproduced."""
