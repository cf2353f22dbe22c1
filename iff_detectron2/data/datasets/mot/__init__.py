"""MOTChallenge and its kin: a text file of boxes per sequence."""

from .challenge import MOT_CLASSES, register_mot_challenge

__all__ = ["MOT_CLASSES", "register_mot_challenge"]
