# SPDX-License-Identifier: Apache-2.0
"""Draw the density of one person's futures in two dimensions, as [CacheFlow] does.

Every dot is a recorded future's latent x, coloured by log p(x | c). The projection is UMAP where
`umap-learn` is installed, else the first two principal components.
"""

from pathlib import Path

import matplotlib
import numpy as np
import torch
from jaxtyping import Float64

from motion_predictor_ros.density.predictor import CacheFlowPredictor
from motion_predictor_ros.skeleton.frame import Window

matplotlib.use('Agg')
from matplotlib.figure import Figure

_MAX_POINTS = 5_000
_RANGE_NAT = 20.0
"""Range of densities below the highest that colours distinguish [nat]."""

Plane = Float64[np.ndarray, 'point 2']


def draw_density(
    density: CacheFlowPredictor,
    window: Window,
    truth: Float64[np.ndarray, 'horizon joint xyz=3'] | None,
    path: Path,
) -> None:
    """Write a PNG of one person's recorded futures, drawn futures, and the true one.

    Args:
        truth: Over the model's horizons [m]; None if it was not observed.
    """
    observed = window.positions[None, -density.past :]
    count = min(_MAX_POINTS, len(density.cache))
    log_density = density.cached_log_density(observed, count)[0].double().cpu().numpy()
    drawn = density.predict([window])
    assert drawn is not None
    rows = torch.from_numpy(drawn.cached[0]).to(density.cache.x.device)
    points = [density.cache.x[:count], density.cache.x[rows]]
    if truth is not None:
        points.append(density.latent(observed, truth[None]))
    name, plane = project(torch.cat(points).double().cpu().numpy())
    recorded, likely, true = np.split(plane, [count, count + len(rows)])
    title = f'{window.person_id}: {count} recorded futures, {name}'
    figure = _scatter(recorded, log_density, likely, true, title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches='tight', metadata={'Software': None})


def _scatter(
    recorded: Float64[np.ndarray, 'cached xy=2'],
    log_density: Float64[np.ndarray, ' cached'],
    likely: Float64[np.ndarray, 'drawn xy=2'],
    true: Float64[np.ndarray, 'truth xy=2'],
    title: str,
) -> Figure:
    """Draw recorded futures with the densest on top, drawn futures, and the true one, if any."""
    figure = Figure(figsize=(6.4, 5.2), facecolor='white')
    axes = figure.add_subplot()
    order = np.argsort(log_density)
    dots = axes.scatter(
        recorded[order, 0],
        recorded[order, 1],
        c=log_density[order].clip(log_density.max() - _RANGE_NAT),
        s=4,
        cmap='plasma',
        linewidths=0,
    )
    figure.colorbar(dots, label='log p(x | observation) [nat]')
    axes.scatter(
        likely[:, 0], likely[:, 1], s=26, facecolors='none', edgecolors='black', label='drawn'
    )
    if len(true):
        axes.scatter(true[:, 0], true[:, 1], marker='*', s=190, color='#2a9d8f', label='truth')
    axes.legend(loc='best', frameon=False)
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
    return figure


def project(points: Float64[np.ndarray, 'point latent']) -> tuple[str, Plane]:
    """Return the name of a projection, and the projected points."""
    try:
        from umap import UMAP
    except ImportError:
        centred = points - points.mean(axis=0)
        _, _, axes = np.linalg.svd(centred, full_matrices=False)
        return 'principal components', centred @ axes[:2].T
    return 'UMAP', UMAP(random_state=0, n_jobs=1).fit_transform(points).astype(np.float64)
