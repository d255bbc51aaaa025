"""`kubectl lora`: local runs of a LoRAJob."""
