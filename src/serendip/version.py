"""The version of serendip, which results and models carry with them."""

__all__ = ["__version__"]

__version__ = "0.2.0"
