# SPDX-License-Identifier: Apache-2.0
"""Protocols for many futures: accuracy, diversity and density, with baselines."""
