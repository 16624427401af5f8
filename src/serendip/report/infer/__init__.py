"""The page of a measured signal strength, and its pictures."""
