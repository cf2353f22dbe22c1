"""MOTChallenge and its kin: a text file of boxes per sequence."""
