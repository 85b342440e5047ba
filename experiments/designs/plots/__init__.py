# SPDX-License-Identifier: MIT
"""The plots of parts: the module of a part's name defines `draw(results)`, a `suite.Draw`."""
