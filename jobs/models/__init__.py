"""From tables to tensors and back: contexts, training snapshots, stored models on executors."""
