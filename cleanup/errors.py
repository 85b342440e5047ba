# SPDX-License-Identifier: MIT
"""The failures a user can expect to meet, each with a message that says what to do next."""


class CleanupError(Exception):
    """An expected failure; its text is fit to be shown as it is."""
