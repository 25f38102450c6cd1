"""Compiles feature definitions to one Spark plan, exact at the moment of every transaction."""
