"""Triton kernels; imported as `iff_detectron2.kernels`, and the only place that imports triton."""
