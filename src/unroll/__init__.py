"""unroll: from a Kaggle text competition's files to a scored submission, with recurrent networks."""

import os

# OpenMP reads it when torch is loaded. Its threads otherwise wait in a busy loop, which makes a training several times
# slower beside another busy program.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# glibc reads these when a process begins, so they are for those that this one starts, as for trainings side by side. It
# otherwise returns the memory of a step's large tensors to the system, which has to clear it for the next step: up to a
# tenth of the time. 32 MiB is the most that it takes; a process keeps at most 256 MiB that it does not need.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(32 << 20))  # bytes
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(256 << 20))

__version__ = "0.1.0"
