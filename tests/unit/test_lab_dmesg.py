# SPDX-License-Identifier: MIT
"""Tests of the dmesg gate: which lines of a kernel's log it takes for a bug."""

import pytest

from cleanup.lab.dmesg import races_of_the_kernel, reports

BUGS = """\
[   12.1] BUG: Bad page state in process sh  pfn:0b2c3
[   12.1] BUG: Bad page map in process python  pte:800000010 pmd:0b2c3067
[   12.1] BUG: non-zero pgtables_bytes on freeing mm: 4096
[   12.1] BUG: Bad rss-counter state mm:00000000a type:MM_ANONPAGES val:1
[   12.1] BUG: kernel NULL pointer dereference, address: 0000000000000010
[   12.1] BUG: unable to handle page fault for address: ffffa0dead000000
[   12.1] BUG: KASAN: slab-use-after-free in pgtable_cleanup_batch+0x1/0x2 [pgtable_cleanup]
[   12.1] BUG: KCSAN: data-race in a / b
[   12.1] BUG: sleeping function called from invalid context at mm/memory.c:1
[   12.1] BUG: scheduling while atomic: sh/1/0x00000002
[   12.1] kernel BUG at mm/page_table_check.c:90!
[   12.1] Oops: 0000 [#1] PREEMPT SMP NOPTI
[   12.1] Oops: general protection fault, probably for non-canonical address 0xdead: 0000 [#1]
[   12.1] general protection fault: 0000 [#1] SMP
[   12.1] Kernel panic - not syncing: Fatal exception
[   12.1] ------------[ cut here ]------------
[   12.1] WARNING: CPU: 1 PID: 100 at mm/memory.c:1 zap_pte_range+0x1/0x2
[   12.1] WARNING: mm/memory.c:1 at zap_pte_range+0x1/0x2, CPU#1: sh/100
[   12.1] WARNING: possible circular locking dependency detected
[   12.1] WARNING: suspicious RCU usage
[   12.1] INFO: possible recursive locking detected
[   12.1] inconsistent lock state
[   12.1] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
[   12.1] rcu: INFO: rcu_preempt self-detected stall on CPU
[   12.1] rcu: rcu_preempt kthread starved for 5000 jiffies!
[   12.1] INFO: task sh:100 blocked for more than 120 seconds.
[   12.1] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [sh:100]
[   12.1] UBSAN: array-index-out-of-bounds in mm/memory.c:1:2
[   12.1] mm/pgtable-generic.c:50: bad pmd ffff8880(0000000000000001)
[   12.1] refcount_t: underflow; use-after-free.
[   12.1] list_del corruption. prev->next should be a, but was b
"""

HARMLESS = """\
[    0.1] Linux version 6.12.117+deb13-amd64
[    0.1] [Firmware Bug]: TSC doesn't count with P0 frequency!
[    0.1] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on
[    0.1] clearcpuid: force-disabling CPU feature flag: cx16
[    0.1] rcu: RCU restricting CPUs from NR_CPUS=8192 to nr_cpu_ids=2.
[    0.1] rcu: Adjusting geometry for rcu_fanout_leaf=16, nr_cpu_ids=2
[    0.1] kasan: KernelAddressSanitizer initialized
[    0.1] kfence: initialized - using 2097152 bytes for 255 objects
[    0.1] Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar
[    0.1] check: Scanning 1 areas for low memory corruption
[    3.1] pgtable_cleanup: loading out-of-tree module taints kernel.
[    3.1] pgtable_cleanup: module verification failed: signature and/or required key missing
[    4.1] traps: python[100] general protection fault ip:401000 sp:7ffc error:0 in python
[    4.1] python[100]: segfault at 0 ip 0000000000401000 sp 00007ffc error 4 in python
[    5.1] reboot: Power down
"""


@pytest.mark.parametrize("line", BUGS.splitlines())
def test_a_bug_is_reported(line: str) -> None:
    assert reports(line) == [line]


@pytest.mark.parametrize("line", HARMLESS.splitlines())
def test_the_rest_is_not(line: str) -> None:
    assert reports(line) == []


def test_only_the_offending_lines_are_given() -> None:
    assert reports(HARMLESS + BUGS) == BUGS.splitlines()


RACE = """\
[   30.1] ==================================================================
[   30.1] BUG: KCSAN: data-race in {ours} / ptep_get_lockless
[   30.1]
[   30.1] write to 0xffff888100 of 8 bytes by task 201 on cpu 0:
[   30.1]  {ours}+0x1/0x2{module}
[   30.1] read to 0xffff888100 of 8 bytes by task 202 on cpu 1:
[   30.1]  ptep_get_lockless+0x1/0x2
[   30.1] Reported by Kernel Concurrency Sanitizer on:
[   30.1] CPU: 1 UID: 0 PID: 202 Comm: python Not tainted
[   30.1] ==================================================================
"""
THE_KERNELS = RACE.format(ours="set_pte", module="")
THE_MODULES = RACE.format(ours="detach", module=" [pgtable_cleanup]")


def test_a_race_counts_where_the_module_is_in_it() -> None:
    log = THE_KERNELS + THE_MODULES + THE_KERNELS
    assert reports(log) == ["[   30.1] BUG: KCSAN: data-race in detach / ptep_get_lockless"]
    assert races_of_the_kernel(log) == ["KCSAN: data-race in set_pte / ptep_get_lockless"] * 2


def test_who_asks_for_the_time_races_with_its_keeper() -> None:
    """A data race in ktime_get() is no bug: its seqcount makes the reader read again."""
    log = RACE.format(ours="ktime_get", module="\n[   30.1]  scan+0x1/0x2 [pgtable_cleanup]")
    assert reports(log) == []
    assert races_of_the_kernel(log) == ["KCSAN: data-race in ktime_get / ptep_get_lockless"]


def test_a_race_cut_off_counts() -> None:
    cut = THE_KERNELS.partition("Reported")[0]
    assert len(reports(cut)) == 1
    assert races_of_the_kernel(cut) == []
