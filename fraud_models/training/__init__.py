"""Model training: snapshot, reader, phases, loop, and distributed ranks in Spark."""
