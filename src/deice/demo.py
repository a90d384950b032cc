"""The whole road on a laptop."""
