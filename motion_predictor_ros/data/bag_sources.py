# SPDX-License-Identifier: Apache-2.0
"""Find the people in a bag, and the transforms that bring them into the fixed frame.

Part of the data readers. The whole of /tf is read first, so a transform recorded after its
observation is known in time. Of a damaged bag, what can be read is used.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from motion_predictor_ros.config import SOURCES, PipelineConfig
from motion_predictor_ros.data.bags import (
    BagMessage,
    read_messages,
    skeleton_messages,
    topic_types,
)
from motion_predictor_ros.errors import BagError
from motion_predictor_ros.pipeline import Pipeline
from motion_predictor_ros.skeleton.frame import Rejection
from motion_predictor_ros.skeleton.tracking import Restart
from motion_predictor_ros.skeleton.transforms import TransformTree

_OURS = ('/markers',)
_MOVING, _STATIC = '/tf', '/tf_static'
"""Transforms, under a namespace if several robots were recorded, as in `/robot1/tf`."""
_MAX_LOGGED = 5


_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordedSource:
    """A source as a bag holds it, and the pipeline that reads it.

    Attributes:
        messages: What can be read, in the order of recording.
        reasons: The first message of each reason for which observations were rejected.
        damage: What could not be read, one line each; complete after the last message.
    """

    pipeline: Pipeline
    messages: Iterator[BagMessage]
    reasons: dict[str, str] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)


def open_source(
    bag: Path,
    topic: str,
    config: PipelineConfig,
    source: str = '',
    on_restart: Callable[[Restart], None] = lambda restart: None,
) -> RecordedSource:
    """Find the source of a bag and load the pipeline for it.

    Args:
        topic: '' takes the only one that fits.
        source: '' takes the configured one if it is not native, else that of the types.
        on_restart: Called for each person whose history is dropped, while the pipeline observes.

    Raises:
        BagError: The bag cannot be read, or it is not clear what is meant.
        MotionPredictorError: The model, the layout or the source cannot be used.
    """
    configured = config.source if config.source != 'native' else ''
    name, topic = find_source(bag, topic, source or configured)
    config = dataclasses.replace(config, source=name)
    tree, damage, reasons = TransformTree(keep_s=np.inf), list[str](), dict[str, str]()
    if config.fixed_frame and not config.extrinsic:
        _read_transforms(bag, topic, tree)

    def on_drop(rejection: Rejection) -> None:
        reasons.setdefault(rejection.reason, rejection.message)

    pipeline = Pipeline.load(config, on_drop, tree.lookup, on_restart)
    source_class = SOURCES[name]
    if source_class.static_topic:
        static_topics = [f'{topic.rpartition("/")[0]}{_STATIC}']
        for recorded in _readable(read_messages(bag, static_topics, source_class.msgtype)):
            pipeline.skeleton.update_static_transforms(recorded.message)
    messages = _readable(skeleton_messages(bag, topic, source_class.msgtype), damage)
    return RecordedSource(pipeline, messages, reasons, damage)


def _readable(
    messages: Iterator[BagMessage], damage: list[str] | None = None
) -> Iterator[BagMessage]:
    """Yield the messages that can be read and decoded; log what cannot.

    Args:
        damage: Gets a line for each thing that cannot be read; with it, one message is required.

    Raises:
        BagError: There is no message, where one is required.
    """
    count, lines = 0, list[str]()
    try:
        for message in messages:
            try:
                _ = message.message
            except BagError as error:
                lines.append(str(error))
                continue
            count += 1
            yield message
    except BagError as error:
        if damage is not None and not count:
            raise
        lines.append(str(error))
    if damage is not None:
        damage += lines
        if lines and not count:
            raise BagError(f'no message can be decoded; the first: {lines[0]}')
    for text in lines[:_MAX_LOGGED]:
        _LOG.warning('%s', text)
    if len(lines) > _MAX_LOGGED:
        _LOG.warning('and %d more', len(lines) - _MAX_LOGGED)


def find_source(bag: Path, topic: str = '', source: str = '') -> tuple[str, str]:
    """Return which source a bag holds, and on which topic.

    Types that only skeletons have come first; markers and poses are taken if nothing else is
    there; TF is taken only when asked for.

    Raises:
        BagError: Nothing, or more than one thing, could be meant.
    """
    types = {name: kind for name, kind in topic_types(bag).items() if topic in ('', name)}
    if source:
        kind, fixed = SOURCES[source].msgtype, SOURCES[source].topic
        matches = [(source, name) for name, other in types.items() if other == kind]
        if not topic and fixed:
            matches = [match for match in matches if not match[1].endswith(_STATIC)]
            matches = [(source, fixed)] if fixed in types else matches
    else:
        matches = [
            (source_name, name)
            for name, kind in types.items()
            for source_name, candidate in SOURCES.items()
            if candidate.msgtype == kind and (topic or not (candidate.topic or name in _OURS))
        ]
        certain = [match for match in matches if not SOURCES[match[0]].has_shared_type]
        matches = certain or matches
    if len(matches) == 1:
        return matches[0]
    listing = ', '.join(sorted(f'{name} [{kind}]' for name, kind in topic_types(bag).items()))
    wanted = f'no topic {topic!r} with' if topic else 'not exactly one topic with'
    what = SOURCES[source].msgtype if source else 'skeletons'
    if len(matches) > 1:
        wanted = f'several skeleton topics {sorted(name for _, name in matches)}, not one with'
    raise BagError(
        f'{bag}: {wanted} {what}; it holds {listing or "nothing"}; name topic and source'
    )


def _read_transforms(bag: Path, topic: str, tree: TransformTree) -> None:
    """Read /tf and /tf_static, and those of the namespace in which `topic` is.

    Without either, those of the only namespace that has any.

    Raises:
        BagError: Several namespaces have transforms, and none of them is that of `topic`.
    """
    kind = SOURCES['tf'].msgtype
    topics = [name for name, other in topic_types(bag).items() if other == kind]
    suffixes = _MOVING, _STATIC
    namespaces = {name.rpartition('/')[0] for name in topics if name.endswith(suffixes)}
    chosen = {name for name in namespaces if topic.startswith(f'{name}/')} or namespaces
    if len(chosen - {''}) > 1 and not all(topic.startswith(f'{name}/') for name in chosen):
        raise BagError(
            f'{bag}: transforms are on {sorted(topics)}, and it is not clear which belong to '
            f'{topic}; filter the bag, or set parameter "extrinsic"'
        )
    moving, static = ([f'{name}{suffix}' for name in sorted(chosen)] for suffix in suffixes)
    for recorded in _readable(read_messages(bag, [*moving, *static], kind)):
        tree.add(recorded.message, static=recorded.topic in static)
