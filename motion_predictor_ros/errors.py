# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with input from outside; broken promises of our own are asserts."""


class MotionPredictorError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(MotionPredictorError):
    """A parameter, recipe or layout file is missing, malformed or out of range."""


class CheckpointError(MotionPredictorError):
    """A weight file is missing, corrupted, or does not fit what was asked of it."""


class BagError(MotionPredictorError):
    """A bag cannot be read, or holds nothing that can be used."""


class DataError(MotionPredictorError):
    """A training or evaluation file does not have the promised form."""


class SkeletonFormatError(MotionPredictorError):
    """A skeleton message or one person in it cannot be read.

    Attributes:
        reason: Short snake_case key under which the drop is counted.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
