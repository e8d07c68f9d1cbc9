# SPDX-License-Identifier: Apache-2.0
"""Replay a bag through the same `Pipeline.step` as the live node, and score the predictions.

The truth is what the same bag recorded later. A prediction is scored only if the person was
observed at every predicted time, so that all horizons and all methods have the same cases.
"""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.data.bags import BagMessage
from motion_predictor_ros.density.types import Futures
from motion_predictor_ros.evaluation.replay.kept_volumes import KeptVolume, VolumeKeeper
from motion_predictor_ros.pipeline import Pipeline
from motion_predictor_ros.prediction.types import Prediction, ScenePrediction
from motion_predictor_ros.runtime.stage_times import STAGES
from motion_predictor_ros.scoring.metrics import BASELINES, Horizons, Motion, mean_joint_error
from motion_predictor_ros.scoring.track import Track


@dataclass(frozen=True)
class Replay:
    """Answers of the pipeline, and observations.

    Attributes:
        tracks: By the number of backward time jumps before, and person id.
        futures: Weighted futures, thinned as published, by resets and stamp.
        step_ms: Duration of each `Pipeline.step`; with `stages_ms` all that differs between two
            replays.
        volumes: Keep-out volumes, by resets and stamp.
        stages_ms: Duration of each stage, whenever it ran.
    """

    scenes: tuple[tuple[int, ScenePrediction], ...]
    tracks: dict[tuple[int, str], Track]
    step_ms: Float64[np.ndarray, ' step']
    frames: int
    drops: Counter[str]
    futures: dict[tuple[int, int], Futures] = field(default_factory=dict)
    volumes: dict[tuple[int, int], tuple[KeptVolume, ...]] = field(default_factory=dict)
    stages_ms: dict[str, Float64[np.ndarray, ' _']] = field(default_factory=dict)


def replay(messages: Iterable[Any], pipeline: Pipeline) -> Replay:
    """Step the pipeline through messages of its source, plain or from a bag, in their order."""
    scenes: list[tuple[int, ScenePrediction]] = []
    tracks: dict[tuple[int, str], Track] = {}
    futures: dict[tuple[int, int], Futures] = {}
    step_ms: list[float] = []
    stages_ms: dict[str, list[float]] = {}
    keeper = VolumeKeeper()
    for record in messages:
        from_bag = isinstance(record, BagMessage)
        message, received_ns = (record.message, record.stamp_ns) if from_bag else (record, 0)
        begin = time.perf_counter()
        accepted = pipeline.observe(message, received_ns)
        scene = pipeline.predict() if accepted else None
        step_ms.append(1000.0 * (time.perf_counter() - begin))
        skeleton = pipeline.skeleton
        for person in skeleton.latest.people if accepted and skeleton.latest else ():
            track = tracks.setdefault((skeleton.resets, person.person_id), Track())
            track.frames.append(person)
        if scene is None:
            continue
        scenes.append((skeleton.resets, scene.prediction))
        for stage, spent_ms in pipeline.times.last_ms.items():
            stages_ms.setdefault(stage, []).append(spent_ms)
        keeper.take(skeleton.resets, scene.volumes or ())
        if scene.futures is not None:
            futures[skeleton.resets, scene.prediction.stamp_ns] = scene.futures.thinned()
    return Replay(
        tuple(scenes),
        tracks,
        np.array(step_ms, dtype=np.float64),
        len(step_ms),
        Counter(pipeline.skeleton.drops),
        futures,
        keeper.kept,
        {stage: np.array(stages_ms[stage]) for stage in STAGES if stage in stages_ms},
    )


@dataclass(frozen=True)
class Case:
    """One prediction that was scored.

    Attributes:
        errors: Mean over joints, by method and horizon [m].
    """

    prediction: Prediction
    truth: Motion
    errors: dict[str, Horizons]


def score(run: Replay) -> list[Case]:
    """Compare all predictions, and the baselines of their windows, with the truth."""
    cases = []
    for epoch, scene in run.scenes:
        for prediction in scene.people:
            truth = run.tracks[epoch, prediction.person_id].at(
                prediction.stamp_ns, scene.horizons_s
            )
            if truth is not None and prediction.positions is not None:
                motions = predictions_by_method(prediction, len(truth))
                errors = {name: mean_joint_error(poses, truth) for name, poses in motions.items()}
                cases.append(Case(prediction, truth, errors))
    return cases


def predictions_by_method(prediction: Prediction, future: int) -> dict[str, Motion]:
    """Return the positions predicted by the model and the baselines [m]."""
    assert prediction.window is not None and prediction.positions is not None
    observed = prediction.window.positions
    others = {name: predict(observed, future) for name, predict in BASELINES.items()}
    return {'motion_deq': prediction.positions, **others}
