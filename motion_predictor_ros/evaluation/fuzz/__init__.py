# SPDX-License-Identifier: Apache-2.0
"""Fuzzing: hostile messages of every source through `Pipeline.step`."""
