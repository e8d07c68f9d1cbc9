# SPDX-License-Identifier: Apache-2.0
"""Adaptation to own people: fine-tuned weights, new covariances, recalibrated volumes."""
