"""The kernels of the benchmark ``torch`` in other frameworks, the models of ``models``, and the sittings that time them
beside ours.

Of kernels: weights are what a model keeps from call to call. Eager PyTorch and our kernels take them as inputs; compiled PyTorch
and ONNX Runtime get them as constants, which they may pack ahead. How a layout of activations comes about is not timed
on any side.
"""
