"""unroll: from a Kaggle text competition's files to a scored submission, with recurrent networks."""

import os

# OpenMP reads it when torch is loaded. Its threads otherwise wait in a busy loop, which makes a training several times
# slower beside another busy program.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
