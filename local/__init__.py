"""The embedded default: the same program, run whole on one machine."""
