# SPDX-License-Identifier: MIT
"""The programs of selftests/mm to run, with the arguments and settings of its run_vmtests.sh."""

from collections.abc import Mapping
from dataclasses import dataclass, field

# run_vmtests.sh reserves this many huge pages of 2 MiB: 256 MiB.
POOL = 128


@dataclass(frozen=True)
class Program:
    """A program with its arguments, and what a run of it needs."""

    command: str
    limit: float = 120.0
    """Seconds that the program may take."""
    hugepages: int = 0
    """Huge pages that are reserved for the program."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Values of files below /proc/sys."""
    user: str | None = None

    @property
    def executable(self) -> str:
        """Return the name of the program's file."""
        return self.command.split()[0]


PROGRAMS = (
    Program("hugepage-mmap", hugepages=POOL),
    Program("hugepage-shm", hugepages=POOL),
    Program("map_hugetlb", hugepages=POOL),
    Program("hugepage-mremap", hugepages=POOL),
    Program("hugepage-vmemmap", hugepages=POOL),
    Program("hugetlb-madvise", hugepages=POOL),
    Program("hugetlb_dio", hugepages=POOL),
    Program("hugetlb_madv_vs_map", hugepages=1),
    Program("map_fixed_noreplace"),
    Program("gup_test -u"),
    Program("gup_test -a"),
    Program("gup_test -ct -F 0x1 0 19 0x1000"),
    Program("gup_longterm", hugepages=POOL),
    # uffd-unit-tests runs in parts, each of which has the time limit to itself.
    Program("uffd-unit-tests -f register-ioctls", hugepages=POOL),
    Program("uffd-unit-tests -f zeropage", hugepages=POOL),
    Program("uffd-unit-tests -f move", hugepages=POOL),
    Program("uffd-unit-tests -f wp-", hugepages=POOL),
    Program("uffd-unit-tests -f sigbus", hugepages=POOL),
    # run_vmtests.sh asks for twice as many rounds, and over huge pages for eight times as many.
    Program("uffd-stress anon 20 8"),
    Program("uffd-stress hugetlb 128 4", hugepages=POOL),
    Program("uffd-stress hugetlb-private 128 4", hugepages=POOL),
    Program("uffd-stress shmem 20 8"),
    Program("uffd-stress shmem-private 20 8"),
    Program("on-fault-limit", user="nobody"),
    Program("map_populate"),
    Program("mlock-random-test"),
    Program("mlock2-tests"),
    Program("mrelease_test"),
    Program("mremap_test"),
    Program("thuge-gen", hugepages=POOL),
    Program("va_high_addr_switch", settings={"vm/overcommit_memory": "1"}),
    Program("mremap_dontunmap"),
    Program("madv_populate"),
    Program("memfd_secret", settings={"kernel/yama/ptrace_scope": "0"}),
    Program("ksm_tests -M -p 10"),
    Program("ksm_tests -U"),
    Program("ksm_tests -Z -p 10 -z 0"),
    Program("ksm_tests -Z -p 10 -z 1"),
    Program("ksm_tests -N -m 1"),
    Program("ksm_tests -N -m 0"),
    Program("ksm_functional_tests", limit=180),
    Program("protection_keys_64"),
    Program("soft-dirty"),
    Program("pagemap_ioctl", hugepages=POOL),
    Program("cow", hugepages=POOL),
    Program("khugepaged"),
    # run_vmtests.sh runs transhuge-stress for four times as long.
    Program("transhuge-stress -d 5"),
    # Only two of migration's six tests run here, as each takes 20 s.
    Program("migration -t private_anon -t shared_anon_thp"),
    Program("mkdirty"),
    Program("mdwe_test"),
    # run_vmtests.sh does not run the following programs.
    Program("mseal_test"),
    Program("seal_elf"),
    Program("droppable"),
    Program("pkey_sighandler_tests_64"),
)

LEFT_OUT = {
    "compaction_test": "takes half a minute to fill all memory, and looks at no process's mappings",
    "hmm-tests": "needs the module test_hmm, which Debian's kernels lack",
    "hugetlb-read-hwpoison": "poisons memory: run_vmtests.sh runs it only when asked to destroy",
    "hugetlb-soft-offline": "poisons memory: run_vmtests.sh runs it only when asked to destroy",
    "hugetlb_fault_after_madv": "10,000 rounds of threads: more than a minute under TCG",
    "split_huge_page_test": "writes big files: some 20 s for each of its twelve tests under TCG",
    "virtual_address_range": "takes an address of 5-level paging for a wrong one, and gives up",
    "write_to_hugetlbfs": "no test, but a part of charge_reserved_hugetlb.sh",
}
"""Programs that are built and not run, and why.

Also left out are `ksm_tests -H` and `-P`, which measure the time that merging takes: more than a
minute under TCG; `uffd-unit-tests` of minor, events and poison, which did not end within a minute
on a loaded host, without a cleaner either; `khugepaged -s 2`, for its time; and the four scripts,
which reconfigure cgroups or need kernel modules that Debian doesn't build.
"""
