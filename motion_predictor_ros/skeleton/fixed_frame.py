# SPDX-License-Identifier: Apache-2.0
"""Bring people into one fixed frame, so that a camera may ride on a robot.

Stage: skeleton. How the source's frame stands in it is a constant of the configuration, or looked
up at the time of the observation; never at any other time, for a moving base is elsewhere by then.
"""

import dataclasses
from collections.abc import Callable

from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.skeleton.frame import Observation
from motion_predictor_ros.skeleton.transforms import Rigid

Lookup = Callable[[str, str, int], Rigid]
"""Target frame, source frame, stamp [ns]; raises SkeletonFormatError `no_transform`."""


class FixedFrame:
    """Moves observations into the fixed frame; without one they stay where they are."""

    def __init__(self, name: str, extrinsic: str, lookup: Lookup) -> None:
        """Set up.

        Args:
            name: Of the fixed frame; '' leaves everything in the source's.
            extrinsic: How the source's frame stands in it: x y z qx qy qz qw; '' asks `lookup`.

        Raises:
            ConfigError: The extrinsic is malformed, or is one in no frame.
        """
        if extrinsic and not name:
            raise ConfigError('extrinsic is given, but no fixed_frame in which it holds')
        self.name = name
        self._extrinsic = Rigid.parse(extrinsic) if extrinsic else None
        self._lookup = lookup

    def move(self, observation: Observation) -> Observation:
        """Return the observation in the fixed frame.

        Raises:
            SkeletonFormatError: `no_transform`; nobody knows how the frames stood then.
        """
        if not self.name or observation.frame_id == self.name:
            return observation
        if not observation.people:
            return dataclasses.replace(observation, frame_id=self.name)
        motion = self._extrinsic or self._lookup(
            self.name, observation.frame_id, observation.stamp_ns
        )
        people = tuple(
            dataclasses.replace(person, positions=motion.apply(person.positions))
            for person in observation.people
        )
        return dataclasses.replace(observation, frame_id=self.name, people=people)
