# SPDX-License-Identifier: Apache-2.0
"""What is encoded is decoded again, whichever way the message went in between."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from motion_predictor_ros.msg import WeightedFuturesArray
from rclpy.serialization import deserialize_message, serialize_message
from ros.graph import START_NS
from ros.scenes import HORIZONS_S, futures, scene, seen, unseen

from motion_predictor_ros.data.bags import typestore
from motion_predictor_ros.density.types import Futures
from motion_predictor_ros.density.wire import decode_futures
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.prediction.types import Prediction, ScenePrediction
from motion_predictor_ros.prediction.wire import decode_prediction
from motion_predictor_ros.ros.encode import encode_futures, encode_prediction

SCENE = scene(seen('anna'), unseen('ben'))


def as_is(message: Any) -> Any:
    return message


def through_dds(message: Any) -> Any:
    return deserialize_message(serialize_message(message), type(message))


def through_a_bag(message: Any) -> Any:
    name = f'motion_predictor_ros/msg/{type(message).__name__}'
    return typestore().deserialize_cdr(serialize_message(message), name)


def difference(left: Prediction, right: Prediction) -> float:
    """Return the largest difference of their numbers; infinite if the rest is not alike."""
    worst = 0.0
    for field in ('positions', 'covariances'):
        mine, other = getattr(left, field), getattr(right, field)
        if (mine is None) != (other is None):
            return np.inf
        if mine is not None:
            worst = max(worst, float(np.abs(mine - other).max()))
    words = ('person_id', 'validity', 'reason', 'stamp_ns')
    alike = all(getattr(left, word) == getattr(right, word) for word in words)
    steps = [0 if each.solver is None else each.solver.steps for each in (left, right)]
    return worst if alike and steps[0] == steps[1] else np.inf


@pytest.mark.parametrize('way', [as_is, through_dds, through_a_bag])
def test_a_scene_survives_the_way_there_and_back(way: Any) -> None:
    message = way(encode_prediction(SCENE, age_s=0.25))
    found = decode_prediction(message)
    assert message.age_s == 0.25
    assert (found.stamp_ns, found.frame_id) == (START_NS + 123456789, 'world')
    assert (found.model, found.joint_names) == (SCENE.model, SCENE.joint_names)
    np.testing.assert_allclose(found.horizons_s, HORIZONS_S, rtol=1e-6)
    for before, after in zip(SCENE.people, found.people, strict=True):
        assert difference(before, after) < 1e-6
        assert after.window is None
    window = SCENE.people[0].window
    assert window is not None
    observed = {person.person_id: person.observed for person in message.persons}
    assert [name for name, values in observed.items() if len(values)] == ['anna']
    pose = np.reshape(observed['anna'], window.positions[-1].shape)
    np.testing.assert_allclose(pose, window.positions[-1], atol=1e-6)


def test_a_person_without_prediction_has_a_residual_of_nan_and_no_values() -> None:
    person = encode_prediction(SCENE, 0.0).persons[1]
    assert np.isnan(person.residual)
    assert not (person.positions or person.observed or person.covariances)


def test_covariances_travel_as_xx_xy_xz_yy_yz_zz() -> None:
    person = seen('anna')
    assert person.covariances is not None
    sent = np.asarray(encode_prediction(scene(person), 0.0).persons[0].covariances)
    (xx, xy, xz), (_, yy, yz), (_, _, zz) = person.covariances[3, 7]
    expected = [xx, xy, xz, yy, yz, zz]
    np.testing.assert_allclose(sent.reshape(25, 18, 6)[3, 7], expected, rtol=1e-6)


def test_a_difference_is_found() -> None:
    moved = seen('anna', shift_m=1e-3)
    assert difference(seen('anna'), moved) > 1e-4
    assert difference(seen('anna'), seen('ben')) == np.inf
    assert difference(seen('anna'), unseen('anna')) == np.inf


@pytest.mark.parametrize('field', ['positions', 'covariances'])
def test_a_message_of_the_wrong_length_is_refused(field: str) -> None:
    message = encode_prediction(SCENE, 0.0)
    setattr(message.persons[0], field, [1.0])
    with pytest.raises(DataError, match=f"'anna'.*{field}"):
        decode_prediction(message)


def test_a_message_of_unknown_validity_is_refused() -> None:
    message = encode_prediction(SCENE, 0.0)
    message.persons[0].validity = 99
    with pytest.raises(DataError, match='99'):
        decode_prediction(message)


def test_an_empty_scene_is_a_stamped_message_without_persons() -> None:
    nobody: ScenePrediction = scene()
    message = encode_prediction(nobody, 0.0)
    assert message.header.stamp.sec and not message.persons
    assert (
        decode_prediction(
            SimpleNamespace(
                **{name: getattr(message, name) for name in message.get_fields_and_field_types()}
            )
        ).people
        == ()
    )


def test_which_joints_were_in_sight_travels_too() -> None:
    person = seen('anna')
    assert person.window is not None
    person.window.observed[:, 17] = False
    message = encode_prediction(scene(person, unseen('ben')), 0.0)
    anna, ben = message.persons
    assert [bool(value) for value in anna.seen] == [True] * 17 + [False]
    assert len(ben.seen) == 0


def futures_gap(left: Futures, right: Futures) -> float:
    """Return the largest difference of their numbers; infinite if the rest is not alike."""
    numbers = ('positions', 'weights', 'log_density', 'novelty', 'effective_sample_size')
    numbers += ('horizons_s', 'predicted_log_density')
    words = ('person_ids', 'model', 'out_of_sight', 'importance_samples')
    exact = np.array_equal(left.cached, right.cached)
    exact = exact and np.array_equal(left.stamp_ns, right.stamp_ns)
    if not exact or any(getattr(left, word) != getattr(right, word) for word in words):
        return np.inf
    return max(float(np.abs(getattr(left, n) - getattr(right, n)).max()) for n in numbers)


@pytest.mark.parametrize('way', [as_is, through_dds, through_a_bag])
def test_futures_survive_the_way_there_and_back(way: Any) -> None:
    sent = futures('anna', 'ben', 'cleo')
    message = way(encode_futures(sent, SCENE, age_s=0.25))
    assert message.age_s == 0.25 and message.header.frame_id == 'world'
    assert tuple(message.joint_names) == SCENE.joint_names
    assert [person.validity for person in message.persons] == [0, 3, 2]
    assert 'r_wrist' in message.persons[2].reason and message.persons[0].reason == ''
    assert futures_gap(sent, decode_futures(message)) < 1e-5
    assert futures_gap(sent, futures('anna', 'ben', 'dora')) == np.inf
    assert futures_gap(sent, futures('anna', 'ben', 'cleo')) == 0.0


def test_empty_futures_and_wrong_lengths() -> None:
    nobody = encode_futures(futures('anna'), SCENE, 0.0)
    nobody.persons = []
    assert decode_futures(nobody).person_ids == ()
    message: WeightedFuturesArray = encode_futures(futures('anna'), SCENE, 0.0)
    message.persons[0].positions = [1.0]
    with pytest.raises(DataError, match=r"'anna'.*positions"):
        decode_futures(message)
