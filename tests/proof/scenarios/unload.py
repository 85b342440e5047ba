# SPDX-License-Identifier: MIT
"""The module is unloaded while tables that it freed still wait for their RCU grace period."""

import os
import subprocess

from guest import abi
from guest.layout import area
from proof.scenarios.races import Race

TABLES = 8192


def right_after_a_reclaim(race: Race) -> None:
    """Callbacks in the module's own text must have run before it goes."""
    module = os.environ["PGTABLE_CLEANUP_MODULE"]
    with area(TABLES) as made:
        for _ in race.rounds():
            made.touch()
            made.release()
            assert abi.call(abi.Args([made.span])).freed == TABLES
            subprocess.run(["rmmod", "pgtable_cleanup"], check=True)
            subprocess.run(["insmod", module], check=True)
