"""What may pass: row rules, quarantine, and the gates between the night's steps."""
