"""What at least two of Lungnode's programs share, and its command line."""

from importlib.metadata import version

__version__ = version("lungnode")
