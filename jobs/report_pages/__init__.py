"""The report's page: words, charts, templates, and the bounded readings they show."""
