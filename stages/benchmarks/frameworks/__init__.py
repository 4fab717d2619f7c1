"""The kernels of the benchmark ``torch`` in other frameworks, the models of ``models``, and the sittings that time them
beside ours.

Weights are what a model keeps from call to call. Of a kernel, eager PyTorch and ours take them as inputs; compiled
PyTorch and ONNX Runtime get them as constants, which they may pack ahead. Of a model, ours are packed ahead, too. How a
layout of activations comes about is not timed on any side.
"""
