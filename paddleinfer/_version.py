"""The version, also the newest heading of CHANGELOG.md."""

__version__ = "0.1.0"
