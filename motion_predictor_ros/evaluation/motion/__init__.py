# SPDX-License-Identifier: Apache-2.0
"""Protocols for single predictions: motion capture, benchmarks, cameras, streams, identities."""
