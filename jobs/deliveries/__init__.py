"""What a bank delivers: column mapping, source, readiness, and the record of past deliveries."""
