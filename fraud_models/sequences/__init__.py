"""Events as tensors: encoding, context blocks and batches. Training and scoring share them."""
