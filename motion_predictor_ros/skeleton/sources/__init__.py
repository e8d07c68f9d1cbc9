# SPDX-License-Identifier: Apache-2.0
"""Decoders of skeleton messages: one class a source, found by registry."""
