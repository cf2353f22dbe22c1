"""Video files, folders and cameras: reading in order and by number, and writing."""
