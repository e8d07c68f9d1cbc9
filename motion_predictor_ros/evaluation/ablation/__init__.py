# SPDX-License-Identifier: Apache-2.0
"""Ablations: both models without single parts, with the same data and schedule."""
