"""From source rows to accepted or quarantined rows: parsing, row rules, duplicates."""
