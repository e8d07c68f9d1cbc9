# SPDX-License-Identifier: Apache-2.0
"""Frozen configuration with default, unit and range stated once.

`ros/parameters.py` declares these same fields as ROS parameters and the CLI reads them from YAML,
so a value means the same on the robot and offline.
"""

import dataclasses
import difflib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.registry import ParameterGroups, Registry
from motion_predictor_ros.resources import share_file

T = TypeVar('T')
SOURCES: Registry[Any] = Registry('motion_predictor_ros.skeleton.sources', 'source')
"""Classes that decode messages: `skeleton/sources/base.py`."""

PREDICTORS: Registry[Any] = Registry('motion_predictor_ros.prediction', 'predictor')
"""Classes that predict motion: `prediction/predictor.py`."""

_NODES = ('*', '**', 'motion_predictor', 'motion_monitor')
_OTHER_PARAMETERS = ('score', 'use_sim_time', 'qos_overrides', 'start_type_description_service')
"""Parameters beside those of `config/predictor.yaml`: the monitor's, and rclpy's."""

Scalar = float | int | str | bool


def param(
    default: Scalar,
    description: str,
    low: float | None = None,
    high: float | None = None,
    *,
    choices: tuple[str, ...] | Callable[[], Iterable[str]] = (),
    dynamic: bool = False,
) -> Any:
    """Declare a field with its default, description (with unit) and range.

    Args:
        choices: Accepted values, or a function that returns them; empty: all.
        dynamic: Whether a running node may change it.
    """
    info = dict(description=description, low=low, high=high, choices=choices, dynamic=dynamic)
    return field(default=default, metadata=info)


def share(default: float, description: str) -> Any:
    """Declare a field from 0 to 1."""
    return param(default, description, 0.0, 1.0)


@dataclass(frozen=True)
class SkeletonConfig:
    """How skeletons are decoded and resampled."""

    layout: str = param(
        'body18', 'skeleton layout of the model and of messages that name none [-]'
    )
    source_layout: str = param(
        '', "layout of the source's joints; empty: its default, else `layout` [-]"
    )
    person_id: str = param('person', 'id of people whose source gives none [-]')
    name_pattern: str = param('{joint}_{id}', 'names of TF frames and markers [-]')
    id_pattern: str = param(
        '', 'regular expression of ids in TF frame names; empty: any but robot parts [-]'
    )
    classes: str = param(
        '', 'detection classes of people, comma-separated; empty: all with a skeleton [-]'
    )
    frame: str = param(
        '', 'accepted frame_id, also of messages without one; empty: the first one [-]'
    )
    up: str = param(
        'z',
        'axis of the frame that points up; people upside down are refused [-]',
        choices=('z', '-z', 'y', '-y', 'x', '-x', 'unknown'),
    )
    max_gap_s: float = param(
        0.2, 'longest gap that is filled; longer ones restart the history [s]', 0.02, 1.0
    )
    max_missing_joints: int = param(
        8, 'joints that may be inferred, if the model supports it; more: INCOMPLETE [-]', 0, 128
    )
    forget_after_s: float = param(
        1.0, 'history of an absent person is kept for this long [s]', 0.1, 60.0
    )
    max_speed_m_s: float = param(
        15.0, 'a faster pelvis is a jump and restarts the history [m/s]', 1.0, 100.0
    )
    max_extent_m: float = param(
        3.0, 'people with bones of a taller body are refused [m]', 0.5, 10.0
    )
    min_extent_m: float = param(
        0.3, 'people with bones of a smaller body are refused [m]', 0.0, 1.0
    )
    max_people: int = param(16, 'people tracked at once; others are dropped [-]', 1, 256)


@dataclass(frozen=True)
class PredictionConfig:
    """The motion model, its device and its solver."""

    weights: str = param('body_1s', 'shipped model name or path of a safetensors file [-]')
    device: str = param('auto', "'auto', 'cpu' or 'cuda:N'; auto takes the faster [-]")
    cuda_graph: bool = param(
        False, 'run as a CUDA graph, always `max_steps`; not tested on a GPU yet [-]'
    )
    max_steps: int = param(
        30, 'maximum solver iterations per prediction [-]', 1, 200, dynamic=True
    )
    tolerance: float = param(
        5e-4, 'relative residual at which the solver stops [-]', 1e-8, 1.0, dynamic=True
    )
    motion_tolerance_m: float = param(
        0.0,
        'change of motion per iteration at which the solver stops too; 0: off [m]',
        0.0,
        0.1,
        dynamic=True,
    )
    max_residual: float = param(
        5e-3,
        'relative residual above which a prediction is NOT_CONVERGED [-]',
        1e-6,
        10.0,
        dynamic=True,
    )
    warm_start: bool = param(
        True, 'start from the last fixed point of the person [-]', dynamic=True
    )


@dataclass(frozen=True)
class DensityConfig:
    """The density model, its cache and how futures are sampled."""

    enabled: str = param(
        'auto',
        'sample futures; auto: if `weights` and `cache` exist [-]',
        choices=('auto', 'always', 'never'),
    )
    rate_hz: float = param(
        5.0, 'rate of futures and volumes, by stamps [Hz]', 0.1, 100.0, dynamic=True
    )
    weights: str = param('body_2s', 'shipped model name or path of a safetensors file [-]')
    cache: str = param('body_2s_cache', 'shipped cache name or path, built with `weights` [-]')
    device: str = param('auto', "'auto', 'cpu' or 'cuda:N'; auto takes the faster [-]")
    futures: int = param(50, 'futures per person [-]', 1, 10_000, dynamic=True)
    rule: str = param(
        'nearest',
        'nearest: cached z nearest to draws of q; flow: without the cache [-]',
        choices=('nearest', 'flow'),
        dynamic=True,
    )
    importance_samples: int = param(
        10_000, 'cached futures with importance weights per person [-]', 1, 10**7, dynamic=True
    )
    cuda_graph: bool = param(False, 'run as CUDA graphs; not tested on a GPU yet [-]')
    seed: int = param(1, 'seed of the draws [-]', 0, 2**31 - 1)


@dataclass(frozen=True)
class VolumeConfig:
    """Keep-out volumes and their voxels."""

    enabled: str = param(
        'auto',
        'compute keep-out volumes; auto: with a density model and its calibration [-]',
        choices=('auto', 'always', 'never'),
    )
    calibration: str = param(
        'body_2s_calibration', 'shipped calibration or path, of the same weights [-]'
    )
    promise: str = param(
        'coverage',
        'coverage: the whole body stays inside until the horizon with probability `level`; risk: '
        'at most the share `risk` of the space of the body is missed. Coverage is stricter, and '
        'needs no risk budget; robots move more under a risk (docs/separation.md) [-]',
        choices=('coverage', 'risk'),
    )
    level: float = param(0.95, 'promised coverage [-]', 0.5, 0.999)
    risk: float = param(0.01, 'share of the space of the body that may be missed [-]', 0.001, 0.2)
    horizon_s: float = param(
        1.0, 'coverage holds jointly until then; calibrated are 0.5, 1 and 2 [s]', 0.0, 10.0
    )
    voxel_m: float = param(
        0.05,
        'minimum edge of voxels; calibrated are 5 cm until 0.25 s, 10 cm later [m]',
        0.01,
        0.5,
    )
    floor_m: float = param(
        -1000.0,
        'height of the floor in the frame, z up: nothing more than 0.25 m below it is covered '
        '(the capsules of feet reach below it); -1000: unknown [m]',
        -1000.0,
        1000.0,
    )
    every: int = param(3, 'predicted frames that share one set of capsules [-]', 1, 25)
    stale_after_s: float = param(
        0.5, 'age of an observation above which the volume is the reachable set [s]', 0.02, 10.0
    )
    measurement_error_m: float = param(0.05, 'maximum error of an observed joint [m]', 0.0, 0.5)
    upper_speed_m_s: float = param(
        2.0, 'speed of arms in the reachable set (ISO 13855) [m/s]', 0.1, 20.0
    )
    body_speed_m_s: float = param(
        1.6, 'speed of the rest in the reachable set (ISO 13855) [m/s]', 0.1, 20.0
    )
    reach_factor: float = param(
        1.0, 'factor on both speeds of the reachable set as fall-back [-]', 0.1, 10
    )


@dataclass(frozen=True)
class DegradationConfig:
    """Load shedding by the live node; see `runtime/load_shedding.py`."""

    enabled: bool = param(
        True, 'leave out futures, then volumes, then reduce the rate under overload [-]'
    )
    busy: float = param(0.95, 'load above which more is left out [-]', 0.1, 1)
    calm: float = param(0.8, 'load below which, for `hold_s`, less is left out [-]', 0.0, 1)
    late_s: float = param(0.2, 'two scenes in 3 s that take longer are overload [s]', 0.01, 10)
    hold_s: float = param(
        5.0, 'time of low load before less is left out; doubled if in vain [s]', 1, 60
    )


@dataclass(frozen=True)
class InputConfig:
    """The source of skeletons, its frame, and who counts as present."""

    skeleton: SkeletonConfig = field(default_factory=SkeletonConfig)
    _: KW_ONLY
    source: str = param(
        'native', 'source of skeletons, see docs/sources.md [-]', choices=lambda: SOURCES
    )
    sources: ParameterGroups = field(default_factory=SOURCES.default_config)
    fixed_frame: str = param(
        '', 'frame of everything published; empty: the frame of the source [-]'
    )
    extrinsic: str = param(
        '', "pose of the source in fixed_frame, 'x y z qx qy qz qw'; empty: from TF [m, -]"
    )
    transform_wait_s: float = param(
        0.15, 'how long an observation waits for its transform [s]', 0.0, 1.0
    )
    associate: bool = param(False, "assign ids by motion instead of the tracker's ids [-]")
    person_hold_s: float = param(
        1.0,
        'a refused or missing person is STALE, with a reachable set, for this long [s]',
        0.0,
        10.0,
    )
    refused_people: str = param(
        'unknown',
        'unknown: planner outputs are silent while a listed person has no known place; '
        'ignored: refused people do not count, for trackers with false detections [-]',
        choices=('unknown', 'ignored'),
    )


@dataclass(frozen=True)
class PipelineConfig(InputConfig):
    """All parameters of `Pipeline`."""

    prediction: PredictionConfig = field(default_factory=PredictionConfig)
    density: DensityConfig = field(default_factory=DensityConfig)
    volume: VolumeConfig = field(default_factory=VolumeConfig)
    _: KW_ONLY
    threads: int = param(2, 'CPU threads that all stages share [-]', 1, 64)
    predictor: str = param('motion_deq', 'motion predictor [-]', choices=lambda: PREDICTORS)
    predictors: ParameterGroups = field(default_factory=PREDICTORS.default_config)
    max_rate_hz: float = param(
        50.0,
        'maximum rate of scenes, by stamps; observations in between are used [Hz]',
        1.0,
        1000.0,
        dynamic=True,
    )


@dataclass(frozen=True)
class ScoreConfig:
    """Scoring of live predictions by the motion that followed."""

    memory_s: float = param(300.0, 'time over which scores are averaged [s]', 10.0, 36_000.0)
    rate_hz: float = param(5.0, 'maximum rate of scored predictions, by stamps [Hz]', 0.1, 100.0)
    independent_s: float = param(
        4.0, 'windows of a person this far apart count as independent [s]', 0.1, 600.0
    )
    significance: float = param(0.001, 'probability of a false alarm per test [-]', 1e-6, 0.1)
    covariance_level: float = param(
        0.95, 'share of joints expected within covariances [-]', 0.5, 0.999
    )


def iterate_params(
    config: Any, prefix: str = ''
) -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """Yield (dotted name, field, value) for every leaf of a nested config."""
    for item in dataclasses.fields(config):
        name = f'{prefix}{item.name}'
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            yield from iterate_params(value, f'{name}.')
        else:
            yield name, item, value


def from_mapping(
    cls: type[T], values: Mapping[str, Any], where: str = '', *, ignore_unknown: bool = False
) -> T:
    """Build a config dataclass from nested mappings, checking names, types and ranges.

    Args:
        ignore_unknown: Leave out unknown names, as in the header of an older file.

    Raises:
        ConfigError: An unknown name, a wrong type or a value out of range.
    """
    fields = {item.name: item for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown and not ignore_unknown:
        raise ConfigError(
            f'unknown {where or cls.__name__} entries {unknown}; known: {sorted(fields)}'
        )
    kept = {
        name: _checked(fields[name], value, f'{where}.{name}' if where else name, ignore_unknown)
        for name, value in values.items()
        if name in fields
    }
    return cls(**kept)


def _checked(item: dataclasses.Field[Any], value: Any, dotted: str, ignore_unknown: bool) -> Any:
    if item.default_factory is not dataclasses.MISSING:
        sample = item.default_factory()
        if dataclasses.is_dataclass(sample):
            if not isinstance(value, Mapping):
                raise ConfigError(f'{dotted} must be a mapping, got {value!r}')
            return from_mapping(type(sample), value, dotted, ignore_unknown=ignore_unknown)
        return tuple(value) if isinstance(value, list) else value
    return check_param(item, value, dotted)


def choices_of(item: dataclasses.Field[Any]) -> tuple[str, ...]:
    """Return the accepted values of a field; empty: all."""
    choices = item.metadata.get('choices', ())
    return tuple(choices() if callable(choices) else choices)


def check_param(item: dataclasses.Field[Any], value: Any, dotted: str) -> Any:
    """Return `value`, perhaps a numpy scalar, in the type of the default; raise `ConfigError`."""
    kind = type(item.default)
    if isinstance(value, np.generic):
        value = value.item()
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise ConfigError(f'{dotted} must be a {kind.__name__}, got {value!r}')
    low, high = item.metadata.get('low'), item.metadata.get('high')
    if kind in (int, float):
        # Written so that NaN fails.
        if not ((low is None or value >= low) and (high is None or value <= high)):
            raise ConfigError(f'{dotted} must be in [{low}, {high}], got {value!r}')
        if value != value:
            raise ConfigError(f'{dotted} must be a number, got {value!r}')
    choices = choices_of(item)
    if choices and value not in choices:
        raise ConfigError(f'{dotted} must be one of {list(choices)}, got {value!r}')
    return value


def validate(config: PipelineConfig) -> PipelineConfig:
    """Return a config made in Python, checked as one from a file is.

    Raises:
        ConfigError: A wrong type or a value out of range.
    """
    return from_mapping(type(config), dataclasses.asdict(config))


def unknown_parameter(name: str, known: Iterable[str]) -> str:
    """Return the text for a name that is no parameter, with the most similar one."""
    similar = difflib.get_close_matches(name, list(known), n=1)
    return f'unknown parameter {name!r}' + (f': is {similar[0]!r} meant?' if similar else '.')


def read_parameter_file(path: Path) -> PipelineConfig:
    """Read the pipeline's parameters from a ROS parameter file.

    Other parameters of the nodes are ignored, and so are other nodes.

    Raises:
        ConfigError: The file cannot be read, sets nothing, or an entry is unknown or wrong.
    """
    sections, values = sections_of_our_nodes(path), dict[str, Any]()
    try:
        for parameters in sections:
            for name, value in parameters.items():
                group = name.split('.')[0]
                if group not in _known():
                    raise ConfigError(unknown_parameter(group, _known()))
                _nest(values, name.split('.'), value)
        names = sorted({item.name for item in dataclasses.fields(PipelineConfig)} & set(values))
        return from_mapping(PipelineConfig, {name: values[name] for name in names})
    except ConfigError as error:
        raise ConfigError(f'{path}: {error}') from error


@functools.cache
def _known() -> frozenset[str]:
    """Return the parameters and groups of parameters that our nodes have."""
    (shipped,) = sections_of_our_nodes(share_file('config', 'predictor.yaml'))
    return frozenset((*shipped, *_OTHER_PARAMETERS))


def sections_of_our_nodes(path: Path) -> list[dict[str, Any]]:
    """Return what a ROS parameter file sets for predictor and monitor, by dotted names.

    Raises:
        ConfigError: The file cannot be read, or sets nothing for them.
    """
    try:
        nodes = dict(_sections(yaml.safe_load(path.read_text())))
    except OSError as error:
        raise ConfigError(f'parameter file {path} cannot be read: {error.strerror}') from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        text = ' '.join(str(error).split())
        raise ConfigError(f'{path} cannot be read as YAML: {text}') from error
    except (AttributeError, TypeError) as error:
        raise ConfigError(
            f'{path} is no ROS parameter file (NODE: ros__parameters: ...)'
        ) from error
    sections = [section for node, section in nodes.items() if node.split('/')[-1] in _NODES]
    if not sections:
        raise ConfigError(f'{path} sets nothing for {_NODES[2]!r}, but for {list(nodes)}')
    return sections


def _sections(content: Mapping[str, Any], name: str = '') -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the nodes of a parameter file, which may be nested in namespaces."""
    if 'ros__parameters' in content:
        yield name, {str(key): value for key, value in content['ros__parameters'].items()}
        return
    for part, inner in content.items():
        yield from _sections(inner, f'{name}/{part}')


def _nest(values: dict[str, Any], names: list[str], value: Any) -> None:
    """Set values['a']['b'] for the dotted name a.b."""
    for name in names[:-1]:
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise ConfigError(f'{name} must be a mapping, got {values!r}')
    last = values.get(names[-1])
    if isinstance(last, dict) and isinstance(value, dict):
        last.update(value)
    else:
        values[names[-1]] = value
