# SPDX-License-Identifier: Apache-2.0
"""Evaluation: archives of results, protocols, replays and reports. Not imported by the stages."""
