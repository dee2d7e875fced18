"""What exists on AWS: one ComponentResource per file, put together by platform.py."""
