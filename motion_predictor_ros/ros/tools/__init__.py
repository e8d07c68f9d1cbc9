# SPDX-License-Identifier: Apache-2.0
"""Executables that play and record bags."""
