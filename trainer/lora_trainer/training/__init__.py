"""The training itself: batches, losses, the loop, its guards, its measurements and its checkpoints."""
