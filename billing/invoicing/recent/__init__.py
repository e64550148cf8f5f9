"""The latest requests with what they cost."""
