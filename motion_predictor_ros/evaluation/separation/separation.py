# SPDX-License-Identifier: Apache-2.0
"""Judge rules of speed and separation: stops against missed contacts, beside people in motion.

Beside each window of motion capture a robot's tool is put on random lines
(`training/robot_lines.py`). From the observation alone, each rule stops the robot or lets it go
on for its stopping time:

* iso_13855: stop if the tool is nearer than 1.6 m/s T + the way to a stop + 0.2 m
* present_<m>, constant_velocity_<m>, motion_deq_<m>: stop if it comes within m of that prediction
* coverage_<level>, risk_<share>: stop if it touches the calibrated volume of a window of time
  while in that window; family 'level_sets', with any threshold on the field
* service_<p>: stop if the collision service says a probability of p or more; family 'ours'

A rule costs stops, and misses contacts. The families are compared where they miss equally many.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64
from matplotlib.figure import Figure
from rich.console import Console
from tqdm import tqdm

from motion_predictor_ros.config import VolumeConfig
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.errors import ConfigError, DataError
from motion_predictor_ros.evaluation.reliability import Reliability
from motion_predictor_ros.evaluation.tables import Cell, print_table
from motion_predictor_ros.scoring.metrics import constant_velocity
from motion_predictor_ros.training.robot_lines import (
    Lines,
    Robot,
    body_clearances,
    clearances,
    future_clearances,
    highest_on_the_way,
    random_lines,
)
from motion_predictor_ros.training.volume_windows import Case, Models, cases_of
from motion_predictor_ros.volume.calibration import (
    LEVELS,
    RISKS,
    Calibration,
    CollisionCalibration,
    HorizonCalibration,
    Promise,
)
from motion_predictor_ros.volume.collision import nearness
from motion_predictor_ros.volume.level_sets import window_field

PREDICTIONS = ('present', 'constant_velocity', 'motion_deq')
FAMILIES = (*PREDICTIONS, 'level_sets', 'ours')
MARGINS_M = tuple(round(0.1 * tenths, 1) for tenths in range(1, 11))
PROBABILITIES = (0.005, 0.01, 0.02, 0.05)
MISSED = (0.02, 0.01, 0.005)
"""Shares of contacts missed at which families are compared."""

ISO_SPEED_M_S, ISO_INTRUSION_M = 1.6, 0.2
"""Of ISO 13855 and ISO/TS 15066: approach speed, and what a sensor cannot see."""

_LEAST_LINES = 40
_BOOTSTRAPS = 400
_EDGES = (0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8)
_GROUPS = ('slow', 'medium', 'fast')


@dataclass(frozen=True)
class Decisions:
    """What every rule said on all lines of one robot.

    Attributes:
        people: Index of the person of each line.
        speeds: Mean speed of that person's points at the decision [m/s].
        kinds: Of the motion, an index.
        contact: Whether the true body would have met the tool.
        scores: How urgent each family finds a line; a threshold on it is a rule.
        counted: Share of futures that the tool meets.
        stops: Of each rule.
    """

    people: Int64[np.ndarray, ' line']
    speeds: Float64[np.ndarray, ' line']
    kinds: Int64[np.ndarray, ' line']
    contact: Bool[np.ndarray, ' line']
    counted: Float64[np.ndarray, ' line']
    scores: Mapping[str, Float64[np.ndarray, ' line']]
    stops: Mapping[str, Bool[np.ndarray, ' line']]


def evaluate_separation(
    models: Models,
    recordings: Recordings,
    calibration: Calibration,
    robots: Sequence[Robot],
    *,
    decisions: int = 100_000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return what each rule costs and misses, by stopping time.

    Args:
        decisions: At least so many for each robot, shared out evenly to windows; of few decisions
            not all windows are used.

    Raises:
        ConfigError: No calibrated horizon is as long as a stopping time.
        DataError: The recordings do not fit the models, or no line meets a person.
    """
    horizons = [_horizon(calibration, robot) for robot in robots]
    longest = max(robot.stopping_s for robot in robots)
    cases = cases_of(models, recordings, longest)
    usable = [case for case in cases if case.novelty <= 1.0 and case.lasts(longest)]
    if not usable:
        raise DataError(f'no window is known for {longest:.2f} s and like what was recorded')
    usable = usable[:: max(1, len(usable) * _LEAST_LINES // decisions)]
    count = -(-decisions // len(usable))
    report: dict[str, Any] = {
        'calibration': calibration.name,
        'windows': len(usable),
        'out_of_distribution': float(np.mean([not case.novelty <= 1.0 for case in cases])),
        'stopping': {},
    }
    for robot, until in zip(robots, horizons, strict=True):
        situation = Situation(models, robot, until, volume_rules(until))
        result = decide(situation, usable, count, seed)
        if not result.contact.any():
            raise DataError(
                f'no contact among {len(result.contact)} decisions: ask for more (--decisions)'
            )
        reliable: dict[str, Any] = {}
        if calibration.collision is not None:
            result, reliable = with_service(result, calibration.collision)
        report['stopping'][f'{round(robot.stopping_s, 2)}'] = {
            'robot': asdict(robot),
            'reliability': reliable,
            **judge(result, _names(case.clip.kind for case in usable)[0], seed),
        }
    return report


def _horizon(calibration: Calibration, robot: Robot) -> HorizonCalibration:
    long_enough = [
        until for until in calibration.horizons if until.horizon_s >= robot.stopping_s - 1e-9
    ]
    if not long_enough:
        raise ConfigError(
            f'the robot needs {robot.stopping_s:.2f} s to stop, volumes are calibrated until '
            f'{max(until.horizon_s for until in calibration.horizons)} s: let it brake harder, or '
            'calibrate a longer horizon'
        )
    return min(long_enough, key=lambda until: until.horizon_s)


@dataclass(frozen=True)
class Situation:
    """What rules decide by, beside each window.

    Attributes:
        until: Calibration of the volumes until the robot has stopped.
        rules: Promise and level or share of each volume that clips suffice for.
    """

    models: Models
    robot: Robot
    until: HorizonCalibration
    rules: Mapping[str, tuple[Promise, float]]


def decide(situation: Situation, cases: Sequence[Case], count: int, seed: int) -> Decisions:
    """Put `count` lines beside each window and apply every rule.

    Lines on which the tool touches the body before it moves are left out: nothing is to decide.
    """
    parts = []
    for index, case in enumerate(tqdm(cases, leave=False, disable=None)):
        random = np.random.default_rng((seed, index))
        lines = random_lines(situation.robot, case.forecast.now, 2 * count, random)
        parts.append(_decide(situation, case, lines, count))
    lengths = [len(part['contact']) for part in parts]
    people = np.repeat(_names(case.clip.subject for case in cases)[1], lengths)
    kinds = np.repeat(_names(case.clip.kind for case in cases)[1], lengths)
    speeds = np.repeat([case.forecast.speeds.mean() for case in cases], lengths)
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    contact, counted = columns.pop('contact'), columns.pop('counted')
    scores = {family: columns.pop(family) for family in FAMILIES}
    return Decisions(people, speeds, kinds, contact, counted, scores, columns)


def _names(values: Any) -> tuple[list[str], Int64[np.ndarray, ' case']]:
    names, index = np.unique([value or 'unnamed' for value in values], return_inverse=True)
    return names.tolist(), index


def volume_rules(until: HorizonCalibration) -> dict[str, tuple[Promise, float]]:
    """Return promise and level or share of each volume that clips suffice for."""
    wanted: list[tuple[Promise, float]] = [('coverage', level) for level in LEVELS]
    wanted += [('risk', share) for share in RISKS]
    rules: dict[str, tuple[Promise, float]] = {}
    for promise, value in wanted:
        with contextlib.suppress(ConfigError):
            until.group_thresholds(promise, value)
            rules[f'{promise}_{value:g}'] = promise, value
    return rules


def _decide(situation: Situation, case: Case, lines: Lines, count: int) -> dict[str, np.ndarray]:
    """Return contact, scores by family and stops by rule of the first `count` lines in use."""
    models, robot, forecast = situation.models, situation.robot, case.forecast
    away = _clearances(situation, case, lines)
    free = np.flatnonzero(away['start'] > 0.0)[:count]
    away = {name: clearance[free] for name, clearance in away.items()}
    lines = Lines(lines.starts[free], lines.velocities[free])
    iso_m = ISO_SPEED_M_S * robot.stopping_s + robot.stopping_m + ISO_INTRUSION_M
    columns = {'contact': away['truth'] <= 0.0, 'iso_13855': away['start'] < iso_m}
    for family in PREDICTIONS:
        columns[family] = -away[family]
        for margin in MARGINS_M:
            columns[f'{family}_{margin:.1f}'] = away[family] < margin
    futures = future_clearances(models.shape, forecast, models.period_s, robot, lines)
    weights = forecast.weights
    columns |= {'counted': (futures <= 0.0) @ weights, 'ours': nearness(futures, weights)}
    return columns | _volumes(situation, case, lines)


def _clearances(
    situation: Situation, case: Case, lines: Lines
) -> dict[str, Float64[np.ndarray, ' line']]:
    """Return the smallest clearance from each predicted body, from the true one, and at once."""
    models, robot, forecast = situation.models, situation.robot, case.forecast
    shape, frames = models.shape, int(np.ceil(robot.stopping_s / models.period_s - 1e-9))
    moving = shape.points(constant_velocity(case.observed, frames), forecast.scale)
    bodies = {
        'present': np.repeat(forecast.now[None], frames, axis=0),
        'constant_velocity': moving,
        'motion_deq': forecast.likeliest[1 : frames + 1],
        'truth': case.truth[:frames],
    }
    now = np.broadcast_to(forecast.now, (len(bodies), 1, *forecast.now.shape))
    paths = np.concatenate([now, np.stack(list(bodies.values()))], axis=1)
    away = body_clearances(shape, forecast, paths, models.period_s, robot, lines)
    radii, still = forecast.scale * shape.radii, forecast.now[None, None]
    start = clearances(lines.starts, lines.velocities, np.zeros(1), still, shape.capsules, radii)
    return {**dict(zip(bodies, away, strict=True)), 'start': start[0] - robot.radius_m}


def _volumes(situation: Situation, case: Case, lines: Lines) -> dict[str, np.ndarray]:
    """Return which volumes the tool touches, and the share of risk at which it begins to."""
    until, robot, forecast = situation.until, situation.robot, case.forecast
    thresholds = {
        name: until.thresholds(*rule, forecast) for name, rule in situation.rules.items()
    }
    lowest = np.min(list(thresholds.values()), axis=0)
    urgency = np.full(len(lines.starts), -np.inf)
    stops = {name: np.zeros(len(lines.starts), np.bool_) for name in thresholds}
    for window, window_s in enumerate(until.windows_s):
        if window_s[0] >= robot.stopping_s:
            break
        shape, size_m, least = (
            situation.models.shape,
            until.voxels_m[window],
            float(lowest[window]),
        )
        field = window_field(shape, forecast, until.ranking, window_s, least, size_m)
        driven_s = window_s[0], min(window_s[1], robot.stopping_s)
        highest = highest_on_the_way(field, driven_s, lines, robot.radius_m)
        for name, taus in thresholds.items():
            stops[name] |= highest >= taus[window]
        urgency = np.maximum(urgency, highest)
    return {'level_sets': urgency, **stops}


def with_service(
    decisions: Decisions, calibration: CollisionCalibration
) -> tuple[Decisions, dict[str, Any]]:
    """Add the rules of the collision service, and the reliability of its probabilities."""
    probability = calibration(decisions.scores['ours'])
    rules = {f'service_{value:g}': probability >= value for value in PROBABILITIES}
    report = {}
    for name, values in (('counted', decisions.counted), ('calibrated', probability)):
        tally = Reliability(_EDGES)
        tally.add(values, decisions.contact)
        figures = tally.figures('lines')
        report[name] = {'brier': figures['brier'], 'bins': figures['reliability']}
    return replace(decisions, stops={**decisions.stops, **rules}), report


def judge(decisions: Decisions, kinds: Sequence[str], seed: int) -> dict[str, Any]:
    """Return the report of one stopping time."""
    everything = np.ones(len(decisions.contact), np.bool_)
    edges = np.quantile(decisions.speeds, [0.0, 1 / 3, 2 / 3, 1.0])
    third = np.clip(np.searchsorted(edges[1:-1], decisions.speeds), 0, 2)
    return {
        'decisions': len(decisions.contact),
        'contacts': int(decisions.contact.sum()),
        'people': len(np.unique(decisions.people)),
        'default_rule': default_rule(VolumeConfig()),
        'rules': rates(decisions, everything),
        'stops_at_missed': stops_at_missed(decisions, seed),
        'by_speed': {
            name: {
                'speed_m_s': edges[index : index + 2].tolist(),
                **_part(decisions, third == index),
            }
            for index, name in enumerate(_GROUPS)
        },
        'by_kind': {
            name: _part(decisions, decisions.kinds == index) for index, name in enumerate(kinds)
        },
        'curves': {family: curve(decisions, family) for family in FAMILIES},
    }


def default_rule(config: VolumeConfig) -> str:
    """Return the rule of the volumes that planners get by default."""
    value = config.risk if config.promise == 'risk' else config.level
    return f'{config.promise}_{value:g}'


def rates(
    decisions: Decisions, chosen: Bool[np.ndarray, ' line']
) -> dict[str, dict[str, float | None]]:
    """Return shares of lines stopped, contacts missed and lines moved on, by rule."""
    contact = decisions.contact[chosen]
    shares: dict[str, dict[str, float | None]] = {}
    for name, stops in decisions.stops.items():
        stopped = float(stops[chosen].mean())
        missed = float((~stops[chosen])[contact].mean()) if contact.any() else None
        shares[name] = {'stops': stopped, 'missed': missed, 'moving': 1.0 - stopped}
    return shares


def _part(decisions: Decisions, chosen: Bool[np.ndarray, ' line']) -> dict[str, Any]:
    contacts = int(decisions.contact[chosen].sum())
    return {
        'decisions': int(chosen.sum()),
        'contacts': contacts,
        'rules': rates(decisions, chosen),
    }


def curve(decisions: Decisions, family: str, points: int = 60) -> list[tuple[float, float]]:
    """Return shares of contacts missed and of lines stopped along a family's thresholds."""
    scores = decisions.scores[family]
    contacts = np.sort(scores[decisions.contact])
    every = np.sort(scores)
    if not len(contacts):
        return []
    places = np.unique(np.geomspace(1, max(len(contacts) // 10, 1), points).astype(int)) - 1
    stopped = 1.0 - np.searchsorted(every, contacts[places]) / len(every)
    return list(zip((places / len(contacts)).tolist(), stopped.tolist(), strict=True))


def stops_at_missed(decisions: Decisions, seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """Compare families where they miss equally many contacts.

    Returns:
        By family and share missed: stops; relative to MotionDEQ with a margin, the median of a
        bootstrap over people and its 5 and 95 % quantiles.
    """
    people = np.unique(decisions.people)
    random = np.random.default_rng(seed)
    draws = random.multinomial(len(people), np.full(len(people), 1 / len(people)), _BOOTSTRAPS)
    weights = np.concatenate([np.ones((1, len(people))), draws])
    families = {family: weighted_stops(decisions, family, weights) for family in decisions.scores}
    report: dict[str, dict[str, dict[str, float]]] = {}
    for family, stops in families.items():
        relative = stops[1:] / families['motion_deq'][1:]
        low, middle, high = np.nanquantile(relative, [0.05, 0.5, 0.95], axis=0)
        report[family] = {
            f'{missed:g}': {
                'stops': float(stops[0, place]),
                'relative': float(middle[place]),
                'low': float(low[place]),
                'high': float(high[place]),
            }
            for place, missed in enumerate(MISSED)
        }
    return report


def weighted_stops(
    decisions: Decisions, family: str, weights: Float64[np.ndarray, 'draw person']
) -> Float64[np.ndarray, 'draw missed']:
    """Return the share of lines stopped where `MISSED` of the contacts are missed.

    Args:
        weights: How often each person counts.
    """
    people, rows = np.unique(decisions.people, return_inverse=True)
    scores = decisions.scores[family]
    contacts = np.flatnonzero(decisions.contact)
    contacts = contacts[np.argsort(scores[contacts], kind='stable')]
    thresholds = scores[contacts]
    counts = np.bincount(rows, minlength=len(people)).astype(np.float64)
    below = np.stack(
        [np.searchsorted(np.sort(scores[rows == row]), thresholds) for row in range(len(people))]
    )
    stops = np.full((len(weights), len(MISSED)), np.nan)
    for draw, weight in enumerate(weights):
        passed = np.cumsum(weight[rows[contacts]])
        if not len(passed) or passed[-1] == 0.0:
            continue
        places = np.searchsorted(passed, passed[-1] * np.array(MISSED), side='right')
        places = np.minimum(places, len(contacts) - 1)
        stops[draw] = 1.0 - weight @ below[:, places] / (weight @ counts)
    return stops


def print_separation(report: Mapping[str, Any], console: Console) -> None:
    """Print tables for each stopping time: rules, families, and reliability of the service."""
    for stopping_s, result in report['stopping'].items():
        title = (
            f'{stopping_s} s to stop: {result["decisions"]} decisions, {result["contacts"]} '
            f'contacts, {result["people"]} people'
        )
        rules: dict[str, dict[str, Cell]] = {
            name + (' (default)' if name == result['default_rule'] else ''): {
                'stops': row['stops'],
                'contacts missed': row['missed'],
                'moving': row['moving'],
            }
            for name, row in result['rules'].items()
        }
        print_table(rules, title, 'rule', console, form='.2%')
        families: dict[str, dict[str, Cell]] = {
            family: {
                f'{float(missed):.1%} missed': f'{row["stops"]:.1%}, x {row["relative"]:.2f} '
                f'[{row["low"]:.2f}, {row["high"]:.2f}]'
                for missed, row in rows.items()
            }
            for family, rows in result['stops_at_missed'].items()
        }
        title = (
            'stops where as many contacts are missed; x: relative to MotionDEQ + margin, in '
            'brackets the 5 and 95 % quantiles of a bootstrap over people'
        )
        print_table(families, title, 'family', console)
        for name, row in result['reliability'].items():
            bins: dict[str, dict[str, Cell]] = {
                f'{part["predicted"]:.2%}': {'contacts': part['observed'], 'lines': part['lines']}
                for part in row['bins']
            }
            title = f'collision service, {name} probabilities: Brier {row["brier"]:.4f}'
            print_table(bins, title, 'predicted', console, form='.2%')
    console.print('a comparison of rules beside recorded people; it certifies no robot')


_STYLES = {
    'present': ('#8d8d8d', 'present pose + margin'),
    'constant_velocity': ('#5b8e7d', 'constant velocity + margin'),
    'motion_deq': ('#e07a1f', 'MotionDEQ + margin'),
    'level_sets': ('#2a7fb8', 'level sets'),
    'ours': ('#5b2a86', 'collision service'),
}


def plot_separation(report: Mapping[str, Any], path: Path) -> None:
    """Write a picture of stops against missed contacts, one panel a stopping time."""
    stopping = report['stopping']
    figure = Figure(figsize=(5.6 * len(stopping), 4.6), facecolor='white', layout='constrained')
    for place, (stopping_s, result) in enumerate(stopping.items()):
        axes = figure.add_subplot(1, len(stopping), place + 1)
        for family, (colour, label) in _STYLES.items():
            axes.plot(
                *100.0 * np.array(result['curves'][family]).T, color=colour, label=label, lw=2
            )
        for name, row in result['rules'].items():
            is_default = name == result['default_rule']
            if name.startswith(('coverage', 'risk')) and row['missed'] is not None:
                at = 100.0 * row['missed'], 100.0 * row['stops']
                axes.plot(*at, 'o', color='#2a7fb8', ms=9 if is_default else 4.5)
                axes.annotate(
                    name.replace('_', ' '), at, (6, 3), textcoords='offset points', fontsize=7
                )
        iso = 100.0 * result['rules']['iso_13855']['stops']
        axes.axhline(iso, color='black', ls=':', lw=1.2, label='ISO 13855 distance')
        axes.set(xlim=(-0.1, 5.0), ylim=(0.0, min(100.0, 1.15 * iso)))
        axes.set_xlabel('contacts missed [%]')
        axes.set_ylabel('decisions to stop [%]')
        axes.set_title(f'{stopping_s} s to stop', fontsize=11)
        axes.grid(alpha=0.25)
        axes.spines[['top', 'right']].set_visible(False)
        if place == 0:
            axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={'Software': None})
