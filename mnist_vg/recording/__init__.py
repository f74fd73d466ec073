"""The logging module: from tensors to measures, and from measures to event files."""
