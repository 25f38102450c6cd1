"""The report page of a night: the data it shows, its wording, charts and HTML templates."""
