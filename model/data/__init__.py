"""Pictures, masks and data sets: reading, pairing, resizing, caching, making up."""
