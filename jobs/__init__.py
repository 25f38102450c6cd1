"""One file, one sub-command: each reads tables, chains domain verbs and writes tables."""
