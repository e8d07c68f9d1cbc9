# SPDX-License-Identifier: Apache-2.0
"""Reports of a replay: JSON, tables, pictures, and a self-contained page."""
