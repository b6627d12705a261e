"""1x1 convolution kernels that average runs of channels, and hand a run's value back to them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def gather_groups(channels: int, groups: int) -> NDArray[np.float32]:
    """(groups, 1, 1, C) kernel: the mean of each group of channels."""
    return mean_kernel(np.ones(channels, np.float32), groups)


def mean_kernel(real: NDArray[np.float32], groups: int) -> NDArray[np.float32]:
    """(groups, 1, 1, C) kernel: the mean of each run's channels that are ``real``."""
    runs = real.reshape(groups, -1)
    kernel = np.zeros((groups, groups, runs.shape[1]), np.float32)
    for index, run in enumerate(runs):
        kernel[index, index] = run / run.sum()
    return kernel.reshape(groups, 1, 1, -1)


def spread_groups(channels: int, groups: int) -> NDArray[np.float32]:
    """(C, 1, 1, groups) kernel: each channel takes the value of its group."""
    blocks = np.kron(np.eye(groups), np.ones((channels // groups, 1)))
    return blocks.reshape(channels, 1, 1, groups).astype(np.float32)
