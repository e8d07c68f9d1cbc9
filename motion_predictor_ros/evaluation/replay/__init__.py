# SPDX-License-Identifier: Apache-2.0
"""Replay of bags through the pipeline, scored by what the same bag recorded later."""
