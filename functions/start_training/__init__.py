"""One training job per data set, from whatever says that there may be new data."""
