"""Errors that know which frame of a clip they are about."""

from __future__ import annotations


class UnreadableFrame(OSError):
    """A frame cannot be read.

    Attributes:
        file: file of the frame; empty where that is not known.
    """

    # One argument must do: that is how an error comes out of a worker of a data loader.
    def __init__(self, message: str, file: str = "") -> None:
        super().__init__(message)
        self.file = file


class MissingFrame(UnreadableFrame, FileNotFoundError):
    """A frame is not there."""
