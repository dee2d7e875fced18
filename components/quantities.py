"""Kubernetes' quantities as numbers."""


def cpu_milli(quantity: str) -> int:
    """A CPU quantity in thousandths of a core."""
    return int(quantity[:-1]) if quantity.endswith("m") else int(float(quantity) * 1000)


def memory_mib(quantity: str) -> int:
    """A memory quantity in MiB."""
    return int(quantity[:-2]) * (1024 if quantity.endswith("Gi") else 1)
