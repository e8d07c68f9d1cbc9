# SPDX-License-Identifier: Apache-2.0
"""Evaluation: protocols, replays and reports. Not imported by the stages."""
