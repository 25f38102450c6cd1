"""The command line: options, help texts, exit codes."""
