"""`kubectl lora`, and local runs of a LoRAJob. Empty in this release."""
