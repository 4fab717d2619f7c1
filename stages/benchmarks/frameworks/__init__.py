"""The kernels of the benchmark ``torch`` in other frameworks, and the sitting that times them beside ours.

Weights are what a model keeps from call to call. Eager PyTorch and our kernels take them as inputs; compiled PyTorch
and ONNX Runtime get them as constants, which they may pack ahead. How a layout of activations comes about is not timed
on any side.
"""
