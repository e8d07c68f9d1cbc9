# SPDX-License-Identifier: Apache-2.0
"""Play and record bags, and the demo: a bag played into a live node."""
