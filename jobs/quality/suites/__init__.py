"""What each gate expects of each table: one file per table."""
