"""vidrnn: unlabelled video in, trusted tables out. The public API is `vidrnn.results`."""

__version__ = "0.1.0"
