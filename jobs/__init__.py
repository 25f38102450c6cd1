"""The batch jobs: one module per sub-command reads tables, calls the packages and writes tables."""
