"""What a worker has to compute with: its GPUs, or slots of its CPU."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from trainer.contract.worker import Device


def devices(slots: int, held: dict[str, str]) -> tuple[Device, ...]:
    """GPUs as the driver tells of them; without a GPU, `slots` equal parts of this machine. `held`: uuid → by what."""
    return _gpus(held) or _slots(slots, held)


def _gpus(held: dict[str, str]) -> tuple[Device, ...]:
    try:
        import pynvml  # noqa: PLC0415 - of no use without a GPU

        pynvml.nvmlInit()
    except Exception:  # noqa: BLE001 - no library, no driver, no GPU: all the same here
        return ()
    found = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory, uuid = pynvml.nvmlDeviceGetMemoryInfo(handle), str(pynvml.nvmlDeviceGetUUID(handle))
        busy = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
        found.append(
            Device(
                index=index, uuid=uuid, name=str(pynvml.nvmlDeviceGetName(handle)), memory_mib=int(memory.total) >> 20,
                used_mib=int(memory.used) >> 20, percent=int(busy), held_by=held.get(uuid, ""),
            )
        )  # fmt: skip
    return tuple(found)


def _slots(slots: int, held: dict[str, str]) -> tuple[Device, ...]:
    total, available = _memory()
    busy = min(100, round(100 * os.getloadavg()[0] / (os.cpu_count() or 1)))
    return tuple(
        Device(
            index=index, uuid=f"cpu-{index}", name=platform.machine(), memory_mib=total // slots,
            used_mib=(total - available) // slots, percent=busy, held_by=held.get(f"cpu-{index}", ""),
        )
        for index in range(slots)
    )  # fmt: skip


def _memory() -> tuple[int, int]:
    """(all, available) memory of this machine in MiB."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    known = {name: int(rest.split()[0]) >> 10 for name, _, rest in (line.partition(":") for line in lines)}
    return known["MemTotal"], known["MemAvailable"]
