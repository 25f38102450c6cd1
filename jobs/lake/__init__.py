"""Delta tables, pinned versions, leases and run records. Only this package writes to the lake."""
