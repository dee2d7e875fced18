"""Rules over resources: one list, used by `python -m local plan`, by tests and by the real engine."""
