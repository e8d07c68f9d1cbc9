# SPDX-License-Identifier: Apache-2.0
"""Human motion prediction for robots: where a person will be, how likely, and how certain.

    from motion_predictor_ros import Observation, Pipeline, PipelineConfig

The names below are imported when they are first used. The generated `motion_predictor_ros.msg` is
installed beside these modules; when this package is imported from the source tree, `extend_path`
finds it in the installed copy.
"""

import importlib
from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from motion_predictor_ros.config import PipelineConfig
    from motion_predictor_ros.density.types import Futures
    from motion_predictor_ros.pipeline import Pipeline, Scene
    from motion_predictor_ros.prediction.types import Prediction
    from motion_predictor_ros.skeleton.frame import Observation
    from motion_predictor_ros.volume.types import SafetyVolume

__path__ = extend_path(__path__, __name__)
__version__ = '0.1.0'
__all__ = [
    'Futures',
    'Observation',
    'Pipeline',
    'PipelineConfig',
    'Prediction',
    'SafetyVolume',
    'Scene',
]

_MODULES = {
    'Futures': 'density.types',
    'Observation': 'skeleton.frame',
    'Pipeline': 'pipeline',
    'PipelineConfig': 'config',
    'Prediction': 'prediction.types',
    'SafetyVolume': 'volume.types',
    'Scene': 'pipeline',
}


def __getattr__(name: str) -> Any:
    """Import a public name."""
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{_MODULES[name]}'), name)
