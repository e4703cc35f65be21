"""What a measurement's reader must know of the machine; nothing that names it."""

import os
import platform
from pathlib import Path
from typing import Final

from secure_infer import _native
from secure_infer.bench.result import Machine

_CPUINFO: Final = Path("/proc/cpuinfo")


def this_machine() -> Machine:
    """The processor and what it can do, now."""
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        instruction_sets=tuple(_native.cpu_features()),
        load_average=round(os.getloadavg()[0], 2),
    )


def _cpu() -> str:
    lines = _CPUINFO.read_text().splitlines() if _CPUINFO.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
