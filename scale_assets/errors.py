"""The one base of every error that a user can mend."""


class ScaleError(ValueError):
    """A user's mistake or a broken input; the message names the field, the value and the way out."""
