# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: time and memory of the stages, each beside a yardstick measured in the same run."""
