# SPDX-License-Identifier: Apache-2.0
"""Made-up predictions, for the tests of what is drawn and sent."""

import numpy as np
from ros.graph import LAYOUT, START_NS

from motion_predictor_ros.density.types import Futures
from motion_predictor_ros.prediction.types import Prediction, ScenePrediction, SolverReport
from motion_predictor_ros.skeleton.frame import Validity, Window

STAMP_NS = START_NS + 123456789
HORIZONS_S = 0.04 * np.arange(1, 26)


def seen(
    person_id: str,
    stamp_ns: int = STAMP_NS,
    shift_m: float = 0.0,
    validity: Validity = Validity.OK,
) -> Prediction:
    rng = np.random.default_rng(5)
    past = rng.normal(size=(25, 18, 3)) + shift_m
    seen_all, sure = np.ones((25, 18), dtype=bool), np.ones((25, 18), dtype=np.float32)
    root = rng.normal(size=(25, 18, 3, 3))
    return Prediction(
        person_id,
        stamp_ns,
        validity,
        '' if validity == Validity.OK else 'because',
        Window(person_id, stamp_ns, past, seen_all, sure, restarted=False),
        rng.normal(size=(25, 18, 3)) + shift_m,
        0.01 * root @ root.swapaxes(-1, -2),
        SolverReport(steps=7, residual=1e-4, converged=True, warm=True),
    )


def unseen(person_id: str, stamp_ns: int = STAMP_NS) -> Prediction:
    return Prediction(person_id, stamp_ns, Validity.WARMING_UP, 'observed 0.12 s of 0.96 s')


def scene(*people: Prediction, stamp_ns: int = STAMP_NS) -> ScenePrediction:
    return ScenePrediction(stamp_ns, 'world', 'tiny@0', LAYOUT.joint_names, HORIZONS_S, people)


def futures(*person_ids: str, stamp_ns: int = STAMP_NS, count: int = 6) -> Futures:
    rng, people = np.random.default_rng(6), len(person_ids)
    weights = rng.random((people, count))
    return Futures(
        person_ids=person_ids,
        stamp_ns=np.full(people, stamp_ns),
        horizons_s=0.2 * np.arange(1, 11),
        positions=rng.normal(size=(people, count, 10, 18, 3)),
        weights=weights / weights.sum(axis=1, keepdims=True),
        log_density=rng.normal(size=(people, count)),
        cached=rng.integers(0, 100_000, (people, count)),
        effective_sample_size=np.linspace(10.0, 20.0, people),
        importance_samples=10_000,
        novelty=np.linspace(0.5, 2.0, people),
        model='tiny_density@0',
        out_of_sight=('',) * (people - 1) + ('r_wrist',),
        predicted_log_density=np.linspace(-3.0, 1.0, people),
    )
