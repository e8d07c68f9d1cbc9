# SPDX-License-Identifier: Apache-2.0
"""Scoring of live predictions by later observations: errors, coverage, baselines."""
