"""Measures the model server against what could be had at all and against other servers."""
