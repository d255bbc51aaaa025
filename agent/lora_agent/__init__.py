"""The sidecar beside an inference engine: downloads adapters, verifies and loads them."""
