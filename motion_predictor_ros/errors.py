# SPDX-License-Identifier: Apache-2.0
"""Exceptions for bad input from outside; violated internal invariants are asserts."""


class MotionPredictorError(Exception):
    """Base of all errors that this package raises."""


class ConfigError(MotionPredictorError):
    """A parameter, recipe or layout file is missing, malformed or out of range."""


class CheckpointError(MotionPredictorError):
    """A weight file is missing, corrupted, or does not match its use."""


class BagError(MotionPredictorError):
    """A bag cannot be read, or holds nothing that can be used."""


class DataError(MotionPredictorError):
    """A training or evaluation file is malformed."""


class SkeletonFormatError(MotionPredictorError):
    """A skeleton message or one person in it cannot be read.

    Attributes:
        reason: Short snake_case key under which the drop is counted.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
