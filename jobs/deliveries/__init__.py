"""What a bank delivers: its mapping, its source, whether it is complete, earlier and later ones."""
