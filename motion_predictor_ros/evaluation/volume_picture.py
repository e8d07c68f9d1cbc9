# SPDX-License-Identifier: Apache-2.0
"""Draw volumes in a picture: likely voxels in space, the space to keep free seen from above."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float64
from matplotlib import colormaps
from matplotlib.axes import Axes
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from motion_predictor_ros.evaluation.kept_volumes import KeptVolume
from motion_predictor_ros.volume.grid import VoxelGrid

LEAST_P = 0.5
"""Voxels less likely than this are not drawn."""

_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])


def draw_voxels(axes: Any, volume: KeptVolume) -> Float64[np.ndarray, 'face corner=4 xyz=3']:
    """Draw the surface of the last window's voxels of at least `LEAST_P`; return its faces."""
    quads = faces(volume.windows[-1].probability >= LEAST_P, volume.grid)
    colour = colormaps['YlGn'](0.5)
    axes.add_collection3d(
        Poly3DCollection(quads, facecolors=[(*colour[:3], 0.06)], edgecolors='none', zorder=0)
    )
    return quads


def faces(
    inside: Bool[np.ndarray, 'x y z'], grid: VoxelGrid
) -> Float64[np.ndarray, 'face corner=4 xyz=3']:
    """Return the faces between voxels inside and outside [m]."""
    around = np.pad(inside, 1)
    found = []
    for axis in range(3):
        places = np.argwhere(np.diff(around, axis=axis))
        others = [each for each in range(3) if each != axis]
        places[:, others] -= 1  # of the padding; along `axis` the difference has taken it off
        quads = np.repeat(places[:, None, :].astype(np.float64), 4, axis=1)
        quads[:, :, others] += _CORNERS
        found.append(quads)
    return np.array(grid.origin) + grid.size_m * np.concatenate(found)


def draw_footprints(axes: Axes, volume: KeptVolume) -> None:
    """Draw the space to keep free from above, windows one over the other, earliest darkest."""
    grid, reached = volume.grid, np.zeros(volume.grid.shape[:2])
    for window in reversed(volume.windows):
        reached[window.covered.any(axis=2)] = 1.0 - window.start_s
    shown = np.ma.masked_equal(reached.T, 0.0)
    left, bottom = grid.origin[:2]
    right, top = (
        start + grid.size_m * count
        for start, count in zip(grid.origin[:2], grid.shape[:2], strict=True)
    )
    extent = (left, right, bottom, top)
    axes.imshow(shown, origin='lower', extent=extent, cmap='GnBu', vmin=-0.4, vmax=1.6)
