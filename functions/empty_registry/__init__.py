"""The end of a model's registry."""
