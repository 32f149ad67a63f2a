"""The errors of Lungnode, named by what the caller does about them.

Every message is one whole sentence for an operator: the file or peer, the rule, the value received.
"""


class LungnodeError(Exception):
    """Base of all errors that Lungnode raises on purpose."""

    def __init__(self, message: str = "", *, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice  # a sentence: what an operator can do; empty where the message says it all


class UnusableError(LungnodeError):
    """The input can never be used: record the reason and stop."""


class UnavailableError(LungnodeError):
    """Something needed is away for now: try again later."""


class SettingsError(LungnodeError):
    """The operator's settings cannot be used: say so and exit with code 2."""
