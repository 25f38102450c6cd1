"""The expectations of each gate: one file per table."""
