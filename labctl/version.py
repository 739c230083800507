"""The version of the distribution, importable from any room."""

__version__ = "0.1.0"
