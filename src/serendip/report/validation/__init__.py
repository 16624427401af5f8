"""The page of a validation, and its pictures."""
