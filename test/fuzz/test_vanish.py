# SPDX-License-Identifier: Apache-2.0
"""A lost person is neither forgotten nor deformed, and the trial sees where one is."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fuzz import vanish
from fuzz.vanish import VanishReport, run_vanish

from motion_predictor_ros.config import DensityConfig, PipelineConfig, PredictionConfig
from motion_predictor_ros.skeleton.people import Presence, PresenceTracker
from motion_predictor_ros.skeleton.plausibility import JointFilter

CONFIG = PipelineConfig(
    prediction=PredictionConfig(device='cpu'), density=DensityConfig(enabled='never')
)


def lose(monkeypatch: pytest.MonkeyPatch, kind: str, source: str) -> VanishReport:
    monkeypatch.setattr(vanish, 'KINDS', {kind: (source,)})
    return run_vanish(2, 0, 1, CONFIG)


@pytest.mark.parametrize(
    ('kind', 'source'), [('searching', 'zed'), ('transform_late', 'yolo'), ('missing', 'hiros')]
)
def test_a_lost_person_is_held_and_predicted_again(
    kind: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = lose(monkeypatch, kind, source)
    assert (report.losses, report.false_nobody, report.impossible_bones) == (2, 0, 0)
    assert report.recovery_s_max <= vanish.LIMIT_S


def test_a_person_who_is_forgotten_at_once_is_false_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    update: Callable[..., Presence] = PresenceTracker.update

    def forget(tracker: PresenceTracker, observation: Any) -> Presence:
        return dataclasses.replace(update(tracker, observation), held=(), unplaced=())

    monkeypatch.setattr(PresenceTracker, 'update', forget)
    assert lose(monkeypatch, 'missing', 'native').false_nobody > 2


def test_a_joint_that_is_believed_wherever_it_is_makes_impossible_bones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vanish, 'MAX_STRETCH', 0.9)
    assert lose(monkeypatch, 'joints_at_origin', 'native').impossible_bones > 2


def test_a_source_whose_joints_are_all_refused_never_recovers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    apply = JointFilter.apply

    def refuse(joints: JointFilter, observation: Any) -> Any:
        people = tuple(
            dataclasses.replace(person, positions=np.full_like(person.positions, np.nan))
            for person in apply(joints, observation).people
        )
        return dataclasses.replace(observation, people=people)

    monkeypatch.setattr(JointFilter, 'apply', refuse)
    assert lose(monkeypatch, 'missing', 'native').recovery_s_max == np.inf
