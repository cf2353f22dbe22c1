"""Saved boxes: how they are read and written, one file per format."""
