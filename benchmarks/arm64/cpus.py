"""The Arm cores that are emulated, and what Linux says about each in /proc/cpuinfo.

The runtimes choose their kernels by what they find there: it must match QEMU's -cpu.
"""

from __future__ import annotations

from dataclasses import dataclass

from egeunet.model.errors import InputError

_V8_0 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_V8_2 = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc "
    "dcpop asimddp ssbs"
)


@dataclass(frozen=True)
class Cpu:
    """One core as QEMU models it.

    Attributes:
        name: QEMU's -cpu.
        part, variant, revision: of its main identification register (MIDR_EL1).
        features: Linux's names of what it can do.
    """

    name: str
    part: int
    variant: int
    revision: int
    features: str

    def cpuinfo(self) -> str:
        """The text of /proc/cpuinfo on a machine with one such core."""
        return (
            "processor\t: 0\n"
            "BogoMIPS\t: 48.00\n"
            f"Features\t: {self.features}\n"
            "CPU implementer\t: 0x41\n"
            "CPU architecture: 8\n"
            f"CPU variant\t: {self.variant:#x}\n"
            f"CPU part\t: {self.part:#x}\n"
            f"CPU revision\t: {self.revision}\n\n"
        )


#: `-cpu max` is left out on purpose: under its SVE, XNNPACK's int8 kernels give wrong results.
CPUS = {
    cpu.name: cpu
    for cpu in (
        Cpu("cortex-a76", 0xD0B, 4, 1, _V8_2),
        Cpu("neoverse-n1", 0xD0C, 4, 1, _V8_2),
        Cpu("cortex-a72", 0xD08, 0, 3, _V8_0),
        Cpu("cortex-a53", 0xD03, 0, 4, _V8_0),
    )
}
#: A phone's big core with the int8 dot product.
DEFAULT_CPU = "cortex-a76"


def cpu_named(name: str) -> Cpu:
    """The core of that name.

    Raises:
        InputError: listing the known names.
    """
    try:
        return CPUS[name]
    except KeyError:
        raise InputError(f"unknown core {name!r}; known: {', '.join(CPUS)}") from None
