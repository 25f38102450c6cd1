"""What every job runs on: settings, logs, paths, Java, the Spark session; knows nothing of fraud."""
