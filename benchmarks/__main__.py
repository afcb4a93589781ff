"""`make bench`: every table, and reports/benchmarks/*.json."""

import argparse
import os
import platform
from pathlib import Path

import torch

from benchmarks import machine, parts, steps
from benchmarks.measure import in_own_process, write

PARTS = {**machine.PARTS, **steps.PARTS, **parts.PARTS}
RESULTS = Path("reports/benchmarks")


def main() -> None:
    """Run the parts asked for, each in a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/sample"), help="folder of raw files")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each runner")
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="which; all of them where none is named")
    asked = parser.parse_args()
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # everything here is of the CPU; `benchmarks.cuda` measures a device
    facts = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "data": asked.data.name,
    }
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    for name in asked.parts or PARTS:
        result, peak = in_own_process(PARTS[name], asked.data, asked.seconds, asked.rounds)
        write(name, {"machine": facts, "peak_memory_mib": round(peak), **result}, RESULTS)
        print(f"peak memory {peak:,.0f} MiB")


def processor() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


if __name__ == "__main__":
    main()
