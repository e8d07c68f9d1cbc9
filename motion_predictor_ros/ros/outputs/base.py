# SPDX-License-Identifier: Apache-2.0
"""The contract of planner outputs: one class in one file of this folder.

A file declares the output's parameters, its message and its publisher, and registers the class:

    @dataclass(frozen=True)
    class KeepOutPoseConfig(OutputConfig):
        rate_hz: float = param(5.0, 'maximum rate, by stamps [Hz]', 0.1, 100.0)

    @OUTPUTS.register('keep_out_pose', KeepOutPoseConfig)
    class KeepOutPose(Output[KeepOutPoseConfig]):
        def open(self) -> None:
            self._publisher = self.create_publisher(PoseStamped, 'keep_out_pose')

        def publish(self, scene: VolumeScene) -> None:
            self._publisher.publish(encode_keep_out_pose(scene))

Its parameters are then `outputs.keep_out_pose.enabled` and `outputs.keep_out_pose.rate_hz`.
`PlannerOutputs` is the one place where a scene is published to planners, or withheld from them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rclpy.node import Node

from motion_predictor_ros.config import param
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.registry import ParameterGroups, Registry
from motion_predictor_ros.ros.topics import QosWatch
from motion_predictor_ros.runtime.rate_limit import RateLimiter
from motion_predictor_ros.skeleton.transforms import Lookup
from motion_predictor_ros.volume.footprint import Band
from motion_predictor_ros.volume.types import SafetyVolume


@dataclass(frozen=True)
class OutputConfig:
    """Parameters of one output. A field `rate_hz`, if a subclass has it, limits its rate."""

    enabled: bool = param(False, 'publish this output [-]')


@dataclass(frozen=True)
class VolumeScene:
    """The keep-out volumes of one observation.

    Attributes:
        volumes: One per person; empty means that no person is there.
        stamp_ns: Of the observation.
        frame_id: Of the observation; never empty.
        age_s: Age of the observation now [s].
        stale: Whether the observation is too old to stand for the present.
    """

    volumes: tuple[SafetyVolume, ...]
    stamp_ns: int
    frame_id: str
    age_s: float = 0.0
    stale: bool = False


@dataclass(frozen=True)
class OutputContext:
    """What outputs share.

    Attributes:
        stale_after_s: Older observations are stale [s].
        lookup: Looks up transforms; None: an output that needs one listens to /tf.
        watch: Creates publishers.
    """

    node: Node
    stale_after_s: float
    lookup: Lookup | None
    watch: QosWatch


@dataclass(frozen=True)
class FootprintConfig(OutputConfig):
    """Parameters of outputs that project the volumes onto the plane."""

    rate_hz: float = param(5.0, 'maximum rate, by stamps [Hz]', 0.1, 100.0)
    until_s: float = param(1.0, 'windows that begin before then count [s]', 0.0, 10.0)
    min_height_m: float = param(0.0, 'lowest height that counts [m]', -100.0, 100.0)
    max_height_m: float = param(2.0, 'greatest height that counts [m]', -100.0, 100.0)

    @property
    def band(self) -> Band:
        """The windows and heights that count."""
        return Band(self.until_s, self.min_height_m, self.max_height_m)


ConfigT = TypeVar('ConfigT', bound=OutputConfig)


class Output(ABC, Generic[ConfigT]):
    """Publishes keep-out volumes for one kind of reader, from construction to `close`."""

    def __init__(self, config: ConfigT, context: OutputContext) -> None:
        self.config, self.context = config, context
        rate_hz = getattr(config, 'rate_hz', None)
        self._rate = None if rate_hz is None else RateLimiter(rate_hz)
        self._closers: list[Callable[[], Any]] = []
        self.open()

    @abstractmethod
    def open(self) -> None:
        """Create publishers.

        Raises:
            ConfigError: A message package is not installed; names the package.
        """

    @abstractmethod
    def publish(self, scene: VolumeScene) -> None:
        """Publish a scene."""

    def update(self, scene: VolumeScene) -> None:
        """Publish a scene if it is due.

        While one stale observation is published repeatedly, its age counts as progress in time.
        """
        moment_ns = scene.stamp_ns + (round(scene.age_s * NS_PER_S) if scene.stale else 0)
        if self._rate is None or self._rate.is_due(moment_ns):
            self.publish(scene)

    def withhold(self, reason: str) -> None:
        """React to a scene that must not be published."""

    def withdraw(self) -> None:
        """Take back what readers would keep for ever."""

    def close(self) -> None:
        """Withdraw, then destroy publishers, services and timers."""
        self.withdraw()
        for closer in reversed(self._closers):
            closer()
        self._closers = []

    def on_close(self, closer: Callable[[], Any]) -> None:
        """Call this when the output is closed; the last one registered comes first."""
        self._closers.append(closer)

    def create_publisher(
        self, kind: Any, topic: str, depth: int = 10, latched: bool = False
    ) -> Any:
        """Create a publisher that is destroyed when the output is closed; see `QosWatch`."""
        publisher = self.context.watch.create_publisher(kind, topic, depth, latched)
        self.on_close(lambda: self.context.node.destroy_publisher(publisher))
        return publisher


OUTPUTS: Registry[Output[Any]] = Registry('motion_predictor_ros.ros.outputs', 'output')


class PlannerOutputs:
    """All enabled outputs; the one place where planners get a scene, or silence.

    Args:
        config: Parameters of every output; None: there are no volumes to publish.

    Raises:
        ConfigError: A message package is not installed; names the package.
    """

    def __init__(self, config: ParameterGroups | None, context: OutputContext) -> None:
        self._stale_after_s = context.stale_after_s
        self._outputs: list[Output[Any]] = []
        try:
            for name, output_class in OUTPUTS.items() if config is not None else ():
                output_config = getattr(config, name)
                if output_config.enabled:
                    self._outputs.append(output_class(output_config, context))
        except Exception:
            self.close()
            raise

    def publish(
        self,
        volumes: Sequence[SafetyVolume],
        stamp_ns: int,
        frame_id: str,
        age_s: float,
        blind: bool = False,
    ) -> None:
        """Publish the volumes of one observation, on each output that is due.

        Args:
            volumes: One per person; empty means that no person is there.
            stamp_ns: Of the observation.
            frame_id: Of the observation.
            age_s: Age of the observation now [s].
            blind: Whether nothing newer came in time. A single person who is STALE, while others
                are observed, does not make a scene stale: their reachable set is as of now.
        """
        if not frame_id:
            self.withhold('no observation has named its frame yet')
            return
        stale = blind or age_s > self._stale_after_s
        scene = VolumeScene(tuple(volumes), stamp_ns, frame_id, age_s, stale)
        for output in self._outputs:
            output.update(scene)

    def withhold(self, reason: str) -> None:
        """Publish nothing: every planner's own timeout is to trip.

        Args:
            reason: Answered by the service `collision_probability`.
        """
        for output in self._outputs:
            output.withhold(reason)

    def withdraw(self) -> None:
        """Take back what readers would keep for ever, such as objects in MoveIt's scene."""
        for output in self._outputs:
            output.withdraw()

    def close(self) -> None:
        """Close every output."""
        for output in self._outputs:
            output.close()
        self._outputs = []
