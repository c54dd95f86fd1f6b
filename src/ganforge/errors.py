"""What can go wrong, by who can mend it."""


class RequestError(ValueError):
    """The request was wrong: one line that says what, where, and what would be right. The command line exits with 2."""

    reported = False
    """Whether another process, of several at one run, says it."""


class TrainingError(RuntimeError):
    """The work began and failed: a loss that is not finite, a game that breaks a rule. The command line exits with 1."""

    reported = False
    """Whether another process, of several at one run, says it."""
