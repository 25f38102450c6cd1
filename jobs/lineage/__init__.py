"""Find the runs and table versions that produced a score, explain the score and reproduce it."""
