# SPDX-License-Identifier: MIT
"""Which stored proofs count for the module as it is, and what has to be proved anew."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cleanup import lab
from cleanup.lab.cache import cache_dir
from cleanup.lab.kernels import kernel_in
from proof import content, evidence
from proof.evidence import STORED, Scale
from proof.proofs import HOST, PROOFS, Proof


@dataclass(frozen=True)
class Standing:
    """A proof on a line of kernels, and whether it counts for the module as it is."""

    proof: Proof
    line: str
    obstacle: str | None
    """Why the proof has to be made again, or None if it counts."""
    remark: str | None = None
    """A note that the kernel in the cache is not the proved one, which is no failure."""

    def __str__(self) -> str:
        """Name the proof and the kernel, and say how it stands."""
        said = self.obstacle or "passed"
        return f"{self.proof.name} on {self.line}: {said}{f', {self.remark}' * bool(self.remark)}"


def standings(
    scale: Scale, *, stored: Path = STORED, kmod: Path = content.KMOD
) -> Iterator[Standing]:
    """Yield how each proof of a scale stands on each of its kernels, kernel by kernel."""
    for line in (*lab.SOURCES, HOST):
        for proof in PROOFS.values():
            if scale in proof.amounts and line in proof.kernels:
                document = evidence.read(proof.name, line, scale, stored)
                obstacle = evidence.obstacle(document, proof.about(line, scale, kmod))
                kernel = cached_kernel(line, proof.build_at(scale))
                remark = evidence.other_kernel(document, kernel.release) if kernel else None
                yield Standing(proof, line, obstacle, remark)


def cached_kernel(line: str, build: str | None) -> lab.Kernel | None:
    """Return a kernel that the lab has got or built already, or None."""
    name = f"{line}-{build}" if build else line
    tree = cache_dir() / "kernels" / name
    return kernel_in(name, tree) if tree.is_dir() else None
