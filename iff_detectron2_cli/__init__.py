"""The command line of iff_detectron2.

A package of its own, since importing `iff_detectron2` registers everything with Detectron2, which
takes seconds: a verb imports it when it runs, and help and typing errors are answered at once.
"""
