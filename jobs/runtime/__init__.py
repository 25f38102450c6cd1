"""Settings, logs, paths, Java and the Spark session. Nothing here depends on the fraud domain."""
