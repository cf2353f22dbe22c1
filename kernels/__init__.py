"""Triton kernels, imported as `iff_detectron2.kernels`: the only place that imports triton.

Each module mirrors one of `iff_detectron2.layers` and fills tensors that the caller allocated, with
the arguments of its plain twin there. Configurations come from plain tables; nothing is tuned at
call time.
"""
