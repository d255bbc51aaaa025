"""What leaves the trainer: the adapter, its description, and other forms of it, published by a manifest."""
