"""Compiled kernels of networks: layers on images (N, C, H, W), and training.

- `columns`: patches of images as columns of a matrix, and back.
- `correlation`, `correlation_gradient`: convolution with stride 1 without columns.
- `winograd`: the transforms of F(2x2, 3x3).
- `optimisers`: updates of parameters; sums of squares, scaling and clamping of gradients.
"""
