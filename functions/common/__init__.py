"""What the functions share: names, data sets, and thin adapters to AWS, a registry and a cluster."""
