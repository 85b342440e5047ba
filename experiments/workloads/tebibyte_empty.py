# SPDX-License-Identifier: MIT
"""The tebibyte without survivors: all of its tables become empty, those of upper levels too."""

from experiments.workloads.tebibyte import Tebibyte


class TebibyteEmpty(Tebibyte):
    name = "tebibyte-empty"
    description = "touch one page per 2 MiB of 1 TiB, release each alone, keep none"
    keeps = False


PART = TebibyteEmpty()
