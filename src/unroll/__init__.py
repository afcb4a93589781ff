"""unroll: from a Kaggle text competition's files to a scored submission, with recurrent networks."""

__version__ = "0.1.0"
