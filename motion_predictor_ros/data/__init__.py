# SPDX-License-Identifier: Apache-2.0
"""Recordings, and readers of bags and of the literature's data sets."""
