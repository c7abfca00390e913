"""The base of every training error that a user can mend."""


class TrainingError(ValueError):
    """A wrong dataset, hyperparameter or gate; the message names it, its value and the way out."""
