"""Training a model: snapshot, reader, phases, loop, and ranks under TorchDistributor."""
