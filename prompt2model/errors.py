"""Everything that can go wrong on purpose.

    Prompt2ModelError
    ├── ConfigError          a setting, flag or plug-in name that cannot be used
    │   └── MissingExtra     an optional package that is not installed
    ├── TaskError            a task description that cannot be read
    ├── DataError            rows that cannot be read, or too few of them
    ├── TeacherError         a teacher that cannot be reached or does not answer
    │   └── BudgetExceeded   the next request would cost more than is left
    ├── WeightsError         a model that cannot be found, loaded or trusted
    ├── HubError             the Hub refuses, or does not answer in time
    └── RunError             a run's folder that cannot be written, read or resumed

Each carries a message with the offending value and a `hint` with the cure. The command line prints those two
lines and exits with 1; any other exception is a bug and keeps its traceback.
"""


class Prompt2ModelError(Exception):
    """The root of the tree. `retryable` says whether the same call may succeed later."""

    retryable = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class ConfigError(Prompt2ModelError):
    """A setting, flag or plug-in name that cannot be used."""


class MissingExtra(ConfigError):
    """An optional package is not installed; the hint is the command that installs it."""

    def __init__(self, package: str, *, extra: str) -> None:
        super().__init__(f"The package {package!r} is not installed.", hint=f"pip install 'prompt2model[{extra}]'")


class TaskError(Prompt2ModelError):
    """A task description that cannot be read."""


class DataError(Prompt2ModelError):
    """Rows that cannot be read, or too few of them."""


class TeacherError(Prompt2ModelError):
    """A teacher that cannot be reached or does not answer."""

    def __init__(self, message: str, *, hint: str = "", retryable: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.retryable = retryable


class BudgetExceeded(TeacherError):
    """The next request would cost more than is left of the budget."""


class WeightsError(Prompt2ModelError):
    """A model that cannot be found, loaded or trusted."""


class HubError(Prompt2ModelError):
    """The Hub refuses, or does not answer in time."""

    retryable = True


class RunError(Prompt2ModelError):
    """A run's folder that cannot be written, read or resumed."""
