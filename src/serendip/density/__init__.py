"""Conditional density models p(x|m) with exact densities and sampling."""
