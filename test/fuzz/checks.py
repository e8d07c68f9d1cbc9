# SPDX-License-Identifier: Apache-2.0
"""Requirements on every answer, whatever the input: for `fuzz.py`.

Published values are float32, so finite means finite in float32.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float

from motion_predictor_ros.density.types import Futures
from motion_predictor_ros.pipeline import Scene
from motion_predictor_ros.prediction.types import ScenePrediction
from motion_predictor_ros.volume.types import SafetyVolume

_Numbers = Float[np.ndarray, '...'] | Bool[np.ndarray, '...'] | float


def non_finite(scene: Scene) -> list[str]:
    """Name the fields that hold NaN, infinity or an invalid probability."""
    names = [*_of_people(scene.prediction)]
    if scene.futures is not None:
        names += _of_futures(scene.futures)
    for volume in scene.volumes or ():
        names += _of_volume(volume)
    return names


def without_volume(scene: Scene) -> set[str]:
    """Return people in the scene who are missing among its volumes, if there are any."""
    if scene.volumes is None:
        return set()
    return {person.person_id for person in scene.prediction.people} - {
        person.person_id for person in scene.volumes
    }


def _of_people(scene: ScenePrediction) -> Iterator[str]:
    for person in scene.people:
        values = {'positions': person.positions, 'covariances': person.covariances}
        values['observed'] = None if person.window is None else person.window.positions
        if person.solver is not None and person.positions is not None:
            values['residual'] = np.array(person.solver.residual)
        for name, value in values.items():
            if value is not None and not _finite(value):
                yield f'{name} of {person.person_id!r}'


def _of_futures(futures: Futures) -> Iterator[str]:
    for name in ('positions', 'weights', 'log_density', 'effective_sample_size', 'novelty'):
        if not _finite(getattr(futures, name)):
            yield f'{name} of futures'
    if np.abs(futures.weights.sum(axis=1) - 1.0).max() > 1e-6 or futures.weights.min() < 0.0:
        yield 'weights of futures, which are not probabilities'


def _of_volume(volume: SafetyVolume) -> Iterator[str]:
    name = f'volume of {volume.person_id!r}'
    all_bodies = [volume.bodies, *(window.bodies for window in volume.windows)]
    for bodies in all_bodies:
        if not all(map(_finite, (bodies.starts, bodies.ends, bodies.radii, bodies.weights))):
            yield f'capsules in the {name}'
    for window in volume.windows:
        if not (_finite(np.array(window.grid.origin)) and window.grid.size_m > 0.0):
            yield f'grid in the {name}'
        if not (window.probability.min() >= 0.0 and window.probability.max() <= 1.0 + 1e-5):
            yield f'probabilities in the {name}'
        if not window.covered.any():
            yield f'nothing covered in the {name}'


def _finite(value: _Numbers) -> bool:
    with np.errstate(over='ignore'):
        return bool(np.isfinite(np.asarray(value).astype(np.float32)).all())
