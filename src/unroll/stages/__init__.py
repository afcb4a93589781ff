"""The stages of the pipeline: one program each."""

import sys

from unroll.core.errors import handle_interrupt

sys.excepthook = handle_interrupt  # for a Ctrl-C in the seconds in which a stage still imports
