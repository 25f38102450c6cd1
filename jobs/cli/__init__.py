"""The command line: options, help texts and exit codes."""
