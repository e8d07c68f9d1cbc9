# SPDX-License-Identifier: Apache-2.0
"""Replays with volumes of synthetic people, for tests of scores and reports."""

import dataclasses
from collections import Counter
from collections.abc import Callable

import numpy as np
from safety_volumes import volume
from volume_scenes import STANDING

from motion_predictor_ros.density.types import Futures
from motion_predictor_ros.evaluation.replay.kept_volumes import KeptVolume, KeptWindow
from motion_predictor_ros.evaluation.replay.replay import Replay
from motion_predictor_ros.prediction.types import Prediction, ScenePrediction
from motion_predictor_ros.scoring.track import Track
from motion_predictor_ros.skeleton.frame import SkeletonFrame, Validity
from motion_predictor_ros.skeleton.layout import SkeletonLayout

NAMES = SkeletonLayout.load('body18').joint_names
HORIZONS_S = 0.04 * np.arange(1, 26)
KEPT = {
    validity: KeptVolume.of(volume(validity=validity))
    for validity in (Validity.OK, Validity.INCOMPLETE)
}
"""Volume of a person standing at the origin of the frame."""


def told(
    played: Replay, every: int = 6, validity: Validity = Validity.OK, wander_m: float = 0.0
) -> dict[tuple[int, int], tuple[KeptVolume, ...]]:
    """Return volumes of all people in every `every`-th scene, moving on slowly."""
    found = {}
    for place, (epoch, scene) in list(enumerate(played.scenes))[::every]:
        further_m = 0.1 * round(10 * wander_m * place)
        windows = tuple(_moved(window, further_m) for window in KEPT[validity].windows)
        own = dataclasses.replace(KEPT[validity], stamp_ns=scene.stamp_ns, windows=windows)
        found[epoch, scene.stamp_ns] = tuple(
            dataclasses.replace(own, person_id=person.person_id) for person in scene.people
        )
    return found


def _moved(window: KeptWindow, further_m: float) -> KeptWindow:
    x, y, z = window.grid.origin
    grid = dataclasses.replace(window.grid, origin=(x + further_m, y, z))
    return dataclasses.replace(window, grid=grid)


def weighed(played: Replay, every: int = 6) -> dict[tuple[int, int], Futures]:
    """Return twelve futures of all people in every `every`-th scene, with increasing weights."""
    found = {}
    for epoch, scene in played.scenes[::every]:
        people = tuple(item.person_id for item in scene.people)
        poses = [played.tracks[epoch, person].frames[0].positions for person in people]
        times_s = 0.2 * np.arange(1, 11)
        apart = 0.1 * np.arange(12)[:, None, None, None] * times_s[:, None, None]
        shape = (len(people), 12)
        found[epoch, scene.stamp_ns] = Futures(
            person_ids=people,
            stamp_ns=np.full(len(people), scene.stamp_ns),
            horizons_s=times_s,
            positions=np.array(poses)[:, None, None] + apart,
            weights=np.full(shape, 1 / 12),
            log_density=np.tile(np.arange(12.0), (len(people), 1)),
            cached=np.zeros(shape, dtype=np.int64),
            effective_sample_size=np.full(len(people), 9.0),
            importance_samples=12,
            novelty=np.full(len(people), 0.5),
        )
    return found


def goes(way_m: Callable[[float], float], seconds: float, people: int = 1) -> Replay:
    """Return a replay of people who go along x, by time [s]."""
    scenes, tracks = [], {}
    for step in range(round(30 * seconds)):
        stamp_ns, answers = round(step / 30 * 1e9), []
        for person in map(str, range(people)):
            pose = STANDING + np.array([way_m(step / 30), 0.0, 0.0])
            frame = SkeletonFrame(person, stamp_ns, pose, np.ones(18, np.float32))
            tracks.setdefault((0, person), Track()).frames.append(frame)
            future = np.repeat(pose[None], 25, axis=0)
            answers.append(Prediction(person, stamp_ns, Validity.OK, positions=future))
        scene = ScenePrediction(stamp_ns, 'world', 'm', NAMES, HORIZONS_S, tuple(answers))
        scenes.append((0, scene))
    return Replay(tuple(scenes), tracks, np.ones(len(scenes)), len(scenes), Counter())


def stands(time_s: float) -> float:
    """Return the position of a person who stands still."""
    return 0.0 * time_s


def walks(time_s: float) -> float:
    """Return the position of a person at 1 m/s."""
    return time_s
