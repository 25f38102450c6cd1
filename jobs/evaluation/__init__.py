"""Which rows are judged, against which baselines, by which metrics, and how certain they are."""
