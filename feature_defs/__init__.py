"""What the bank knows about an entity, and when: definitions, not computation.

Importing this package needs neither Spark nor torch.
"""
