"""The base model and the adapter on it: its shape, its memory, its weights, and how they compute."""
