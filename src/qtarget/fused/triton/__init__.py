"""Triton kernels: the GPU twin of the elementwise half of the fused loss, two for every method and a third for a slope.

Imported only where a chunk runs on them: triton comes with the CUDA builds of torch and is no dependency.
"""
