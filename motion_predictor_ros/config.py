# SPDX-License-Identifier: Apache-2.0
"""Frozen configuration with default, unit and range stated once.

`ros/parameters.py` declares these same fields as ROS parameters and the CLI reads them from YAML,
so a value means the same on the robot and offline.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.registry import ParameterGroups, Registry

T = TypeVar('T')
SOURCES: Registry[Any] = Registry('motion_predictor_ros.skeleton.sources', 'source')
"""Classes that decode messages: `skeleton/sources/base.py`."""

PREDICTORS: Registry[Any] = Registry('motion_predictor_ros.prediction', 'predictor')
"""Classes that predict motion: `prediction/predictor.py`."""

Scalar = float | int | str | bool


def param(
    default: Scalar,
    description: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | Callable[[], Iterable[str]] = (),
    dynamic: bool = False,
) -> Any:
    """Declare one field: its default, what it is (with unit), and what it may be.

    Args:
        choices: The values that are accepted, or a function that returns them; none: all are.
        dynamic: Whether a running node may change it.
    """
    info = dict(description=description, low=low, high=high, choices=choices, dynamic=dynamic)
    return field(default=default, metadata=info)


@dataclass(frozen=True)
class SkeletonConfig:
    """How skeletons are read and put on the model clock."""

    layout: str = param('body18', 'layout of incoming skeletons that name none [-]')
    source_layout: str = param(
        '', "layout of the source's joints; empty: the source's own, else `layout` [-]"
    )
    person_id: str = param('person', 'id of a person whose source states none [-]')
    name_pattern: str = param(
        '{joint}_{id}', 'how TF frames and markers are named after joint and person [-]'
    )
    id_pattern: str = param(
        '', 'regular expression of ids in TF frame names; empty: any that names no robot part [-]'
    )
    classes: str = param(
        '', 'detection classes that are people, comma-separated; empty: all with a skeleton [-]'
    )
    frame: str = param(
        '',
        'accepted frame_id, and that of messages without one; empty accepts the first one [-]',
    )
    up: str = param(
        'z',
        'axis of the frame that points up; people upside down are refused [-]',
        choices=('z', '-z', 'y', '-y', 'x', '-x', 'unknown'),
    )
    max_gap_s: float = param(
        0.2,
        'longest gap that is filled and marked; longer ones reset the person [s]',
        low=0.02,
        high=1.0,
    )
    max_missing_joints: int = param(
        8,
        'joints out of sight that are inferred, if the model was trained for it; more: INCOMPLETE'
        ' [-]',
        low=0,
        high=128,
    )
    forget_after_s: float = param(
        1.0, 'forget a person not seen for this long [s]', low=0.1, high=60.0
    )
    max_speed_m_s: float = param(
        15.0,
        'a pelvis faster than this is a jump: the person starts anew [m/s]',
        low=1.0,
        high=100.0,
    )
    max_extent_m: float = param(
        3.0, 'people with the bones of a taller body are refused [m]', low=0.5, high=10.0
    )
    min_extent_m: float = param(
        0.3, 'people with the bones of a smaller body are refused [m]', low=0.0, high=1.0
    )
    max_people: int = param(16, 'people tracked at once; more are dropped [-]', low=1, high=256)


@dataclass(frozen=True)
class PredictionConfig:
    """Which model runs, where, and how hard its solver tries."""

    weights: str = param('body_1s', 'shipped model name or path of a safetensors file [-]')
    device: str = param('auto', "'auto', 'cpu' or 'cuda:N'; auto takes the faster [-]")
    cuda_graph: bool = param(
        False,
        'replay the model as a CUDA graph: spends all of `max_steps`; tried on no GPU yet [-]',
    )
    max_steps: int = param(
        30, 'most solver iterations per prediction [-]', low=1, high=200, dynamic=True
    )
    tolerance: float = param(
        2e-4, 'relative residual at which a person is solved [-]', low=1e-8, high=1.0, dynamic=True
    )
    motion_tolerance_m: float = param(
        0.0,
        'stop too when the predicted motion changes by less than this per iteration; 0 = off [m]',
        low=0.0,
        high=0.1,
        dynamic=True,
    )
    max_residual: float = param(
        5e-3,
        'predictions with a larger relative residual are marked NOT_CONVERGED [-]',
        low=1e-6,
        high=10.0,
        dynamic=True,
    )
    warm_start: bool = param(
        True, 'start from the previous fixed point of the person [-]', dynamic=True
    )


@dataclass(frozen=True)
class DensityConfig:
    """Which density model runs, over which cache, and how futures are drawn."""

    enabled: str = param(
        'auto',
        'whether futures are drawn and weighted; auto: if `weights` and `cache` are there [-]',
        choices=('auto', 'always', 'never'),
    )
    rate_hz: float = param(
        5.0, "how often, by the observations' stamps [Hz]", low=0.1, high=100.0, dynamic=True
    )
    weights: str = param('body_2s', 'shipped model name or path of a safetensors file [-]')
    cache: str = param('body_2s_cache', 'shipped cache name or path, made with `weights` [-]')
    device: str = param('auto', "'auto', 'cpu' or 'cuda:N'; auto takes the faster [-]")
    futures: int = param(50, 'futures per person [-]', low=1, high=10_000, dynamic=True)
    rule: str = param(
        'nearest',
        'nearest: cached z nearest to draws of q; weighted: by W; flow: without the cache [-]',
        choices=('nearest', 'weighted', 'flow'),
        dynamic=True,
    )
    importance_samples: int = param(
        10_000,
        'cached futures with importance weights per person [-]',
        low=1,
        high=10**7,
        dynamic=True,
    )
    cuda_graph: bool = param(False, 'replay the model as CUDA graphs; tried on no GPU yet [-]')
    seed: int = param(1, 'seed of the draws [-]', low=0, high=2**31 - 1)


@dataclass(frozen=True)
class VolumeConfig:
    """Which space is kept free around people, and how it is cut into voxels."""

    enabled: str = param(
        'auto',
        'whether keep-out volumes are computed; auto: if there is a density model and a '
        'calibration of the models in use [-]',
        choices=('auto', 'always', 'never'),
    )
    calibration: str = param(
        'body_2s_calibration', 'shipped calibration or path, made with the same weights [-]'
    )
    promise: str = param(
        'coverage',
        'coverage: the whole body stays inside until the horizon with probability `level`; risk: '
        'at most the share `risk` of the space that the body fills is missed. Coverage is the '
        'stricter one: a planner that knows nothing of budgets can rely on it [-]',
        choices=('coverage', 'risk'),
    )
    level: float = param(0.95, 'coverage that is promised [-]', low=0.5, high=0.999)
    risk: float = param(
        0.01, 'share of the space of the body that may be missed [-]', low=0.001, high=0.2
    )
    horizon_s: float = param(
        1.0,
        'coverage holds jointly until then; one that was calibrated (0.5, 1, 2). The likeliest '
        'future ends after 1 s: until 2 s volumes are several times as large [s]',
        low=0.0,
        high=10.0,
    )
    voxel_m: float = param(
        0.05,
        'least edge of a voxel; those of the calibration (5 cm until 0.25 s, 10 cm later) are '
        'joined until they are as large [m]',
        low=0.01,
        high=0.5,
    )
    floor_m: float = param(
        -1000.0,
        'height of the floor in the frame, z up: nothing more than 0.25 m below it is covered '
        '(the capsules of feet reach below it); -1000: unknown [m]',
        low=-1000.0,
        high=1000.0,
    )
    every: int = param(3, 'predicted frames that share one set of capsules [-]', low=1, high=25)
    stale_after_s: float = param(
        0.5, 'older observations give the reachable set [s]', low=0.02, high=10.0
    )
    measurement_error_m: float = param(
        0.05, 'how far off an observed joint may be [m]', low=0.0, high=0.5
    )
    upper_speed_m_s: float = param(
        2.0, 'speed of arms in the reachable set (ISO 13855) [m/s]', low=0.1, high=20.0
    )
    body_speed_m_s: float = param(
        1.6, 'speed of the rest in the reachable set (ISO 13855) [m/s]', low=0.1, high=20.0
    )
    reach_factor: float = param(
        1.0, 'factor on both speeds where the reachable set is given instead [-]', low=0.1, high=10
    )


@dataclass(frozen=True)
class DegradationConfig:
    """When the live node gives something up, and takes it back; `degradation.py` says what."""

    enabled: bool = param(
        True, 'give up futures, then volumes, then rate, where the machine is too slow [-]'
    )
    busy: float = param(
        0.9, 'answers that take more than this share of a second are too slow [-]', low=0.1, high=1
    )
    calm: float = param(
        0.5, 'below this share, for `hold_s`, what was given up is taken back [-]', low=0.0, high=1
    )
    late_s: float = param(
        0.2,
        'answers that take longer, two in three seconds, are too slow [s]',
        low=0.01,
        high=10,
    )
    hold_s: float = param(
        5.0, 'how long the machine must be fast enough; doubled when in vain [s]', low=1, high=60
    )


@dataclass(frozen=True)
class InputConfig:
    """Where people are seen, and how what is said of them is read."""

    skeleton: SkeletonConfig = field(default_factory=SkeletonConfig)
    _: KW_ONLY
    source: str = param(
        'native',
        'what publishes the skeletons; docs/sources.md says what each is [-]',
        choices=lambda: SOURCES,
    )
    sources: ParameterGroups = field(default_factory=SOURCES.default_config)
    fixed_frame: str = param(
        '', "frame of all that is published; empty: the observations' own [-]"
    )
    extrinsic: str = param(
        '',
        "how the source's frame stands in fixed_frame, 'x y z qx qy qz qw'; empty asks TF [m, -]",
    )
    transform_wait_s: float = param(
        0.15, 'how long a live observation waits for its transform [s]', low=0.0, high=1.0
    )
    associate: bool = param(
        False, "tell people apart by their motion instead of believing the tracker's ids [-]"
    )
    person_hold_s: float = param(
        1.0,
        'a person who is refused or missing is STALE, with a growing reachable set, for this '
        'long [s]',
        low=0.0,
        high=10.0,
    )
    refused_people: str = param(
        'unknown',
        'unknown: planner outputs are silent while somebody is listed whose place is unknown; '
        'ignored: listed but refused people do not count, for trackers that see ghosts [-]',
        choices=('unknown', 'ignored'),
    )


@dataclass(frozen=True)
class PipelineConfig(InputConfig):
    """Everything `Pipeline` needs to know."""

    prediction: PredictionConfig = field(default_factory=PredictionConfig)
    density: DensityConfig = field(default_factory=DensityConfig)
    volume: VolumeConfig = field(default_factory=VolumeConfig)
    _: KW_ONLY
    threads: int = param(2, 'CPU threads that all stages share [-]', low=1, high=64)
    predictor: str = param('motion_deq', 'what predicts motion [-]', choices=lambda: PREDICTORS)
    predictors: ParameterGroups = field(default_factory=PREDICTORS.default_config)
    max_rate_hz: float = param(
        50.0,
        'most answers per second of the stamps; what is heard between them counts [Hz]',
        low=1.0,
        high=1000.0,
        dynamic=True,
    )


@dataclass(frozen=True)
class ScoreConfig:
    """How live predictions are judged by what came after."""

    memory_s: float = param(
        300.0, 'what turned out longer ago does not count [s]', low=10.0, high=36_000.0
    )
    rate_hz: float = param(
        5.0, 'predictions are judged at most so often, in stamps [Hz]', low=0.1, high=100.0
    )
    independent_s: float = param(
        4.0, 'windows of a person this far apart are independent [s]', low=0.1, high=600.0
    )
    significance: float = param(
        0.001, 'probability of an alarm by chance, at each look [-]', low=1e-6, high=0.1
    )
    covariance_level: float = param(
        0.95, 'share of joints expected within covariances [-]', low=0.5, high=0.999
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


def from_mapping(cls: type[T], values: Mapping[str, Any], where: str = '') -> T:
    """Build a config dataclass from nested mappings, checking names, types and ranges.

    Raises:
        ConfigError: An unknown name, a wrong type or a value out of range.
    """
    fields = {item.name: item for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ConfigError(
            f'unknown {where or cls.__name__} entries {unknown}; known: {sorted(fields)}'
        )
    kept: dict[str, Any] = {}
    for name, value in values.items():
        dotted = f'{where}.{name}' if where else name
        kept[name] = _checked(fields[name], value, dotted)
    return cls(**kept)


def _checked(item: dataclasses.Field[Any], value: Any, dotted: str) -> Any:
    if item.default_factory is not dataclasses.MISSING:
        sample = item.default_factory()
        if dataclasses.is_dataclass(sample):
            if not isinstance(value, Mapping):
                raise ConfigError(f'{dotted} must be a mapping, got {value!r}')
            return from_mapping(type(sample), value, dotted)
        return tuple(value) if isinstance(value, list) else value
    return check_param(item, value, dotted)


def choices_of(item: dataclasses.Field[Any]) -> tuple[str, ...]:
    """Return the values that a field accepts; empty if any."""
    choices = item.metadata.get('choices', ())
    return tuple(choices() if callable(choices) else choices)


def check_param(item: dataclasses.Field[Any], value: Any, dotted: str) -> Any:
    """Return `value` in the type of the field's default, or raise `ConfigError`."""
    kind = type(item.default)
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


def read_parameter_file(path: Path) -> PipelineConfig:
    """Read what a ROS parameter file says of the pipeline, so that replay and robot agree.

    Entries of the node alone (topics, markers, ...) are passed over.

    Raises:
        ConfigError: The file cannot be read, or an entry of the pipeline is wrong.
    """
    try:
        document = yaml.safe_load(path.read_text())
        nodes = [node['ros__parameters'] for node in document.values()]
        values: dict[str, Any] = {}
        for node in nodes:
            for name, value in node.items():
                _nest(values, name.split('.'), value)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f'{path} cannot be read as YAML: {error}') from error
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError(
            f'{path} is no ROS parameter file (NODE: ros__parameters: ...)'
        ) from error
    own = {item.name for item in dataclasses.fields(PipelineConfig)}
    return from_mapping(PipelineConfig, {key: values[key] for key in sorted(own & set(values))})


def _nest(values: dict[str, Any], names: list[str], value: Any) -> None:
    """Set values['a']['b'] for the dotted name a.b, as ROS parameter files may write it."""
    for name in names[:-1]:
        values = values.setdefault(name, {})
    last = values.get(names[-1])
    if isinstance(last, dict) and isinstance(value, dict):
        last.update(value)
    else:
        values[names[-1]] = value
