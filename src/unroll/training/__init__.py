"""How models learn: fit(), losses, cross-validation, parallel trainings, torchrun, checkpoints, the lessons."""
