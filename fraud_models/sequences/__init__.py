"""Events as tensors: encoding, context blocks and batches, shared by training and scoring."""
