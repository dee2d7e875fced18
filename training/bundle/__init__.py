"""The model bundle: what training writes, releases verify and servers run."""
