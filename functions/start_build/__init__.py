"""The build of the serving image, once per source hash."""
