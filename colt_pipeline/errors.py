"""The errors that this package raises deliberately.

ColtError
├── ConfigError            a flag, key, choice or type in the configuration
├── UnforeseenError        the runs of a command line are known only when they start
├── StackError             the installed packages are incompatible
├── DeviceError            no such device, RPC tracker or server
├── RunDirError            a run directory that is unwritable or holds a different run
├── JournalError           a JSON Lines file that is corrupt or in use by another process
├── RecordingError
│   ├── ReplayMissError    replay asked for something that was not recorded
│   └── DeviceMismatchError a ledger or journal from another device
├── LLMError               a live call that got no answer
│   ├── TransientError     a retry may succeed: rate limit, timeout, lost connection, server error
│   ├── CallError          this question cannot be answered: bad request, context overflow
│   ├── ProviderError      no question can be answered: bad key, no quota, no such model, server down
│   └── BudgetError        a limit on calls, tokens, USD or time has been reached
├── SpaceError             no valid program could be sampled
├── ExportError            a tuned kernel that cannot be exported, or not there
├── OutputError            what a command prints cannot be written
└── UnfinishedError        some runs of a comparison failed

Every message names the offending value and how to fix it. Within the search, a failure is a value (Rejection,
Measurement.error), not an exception.
"""

from __future__ import annotations


class ColtError(Exception):
    """Base class of errors shown to the user as a single message, without a traceback."""


class ConfigError(ColtError):
    """A flag, key, choice or type in the configuration."""


class UnforeseenError(ColtError):
    """The runs of a command line are known only when they start."""


class StackError(ColtError):
    """The installed packages are incompatible."""


class DeviceError(ColtError):
    """No such device, RPC tracker or server."""


class RunDirError(ColtError):
    """A run directory that is unwritable or holds a different run."""


class JournalError(ColtError):
    """A JSON Lines file that is corrupt or in use by another process."""


class RecordingError(ColtError):
    """A recording that cannot serve this run."""


class ReplayMissError(RecordingError):
    """Replay asked for something that was not recorded."""


class DeviceMismatchError(RecordingError):
    """A ledger or journal from another device."""


class LLMError(ColtError):
    """A live call that got no answer."""


class TransientError(LLMError):
    """Another attempt may succeed."""

    def __init__(
        self,
        message: str,
        retry_after_secs: float | None = None,
        maybe_charged: bool = False,
        unreached: bool = False,
    ) -> None:
        """Describe a failed attempt.

        Args:
            message: what went wrong.
            retry_after_secs: the wait that the server asked for, if it did.
            maybe_charged: the server may have computed (and charged for) an answer that never arrived.
            unreached: no connection to the server could be made.
        """
        super().__init__(message)
        self.retry_after_secs = retry_after_secs
        self.maybe_charged = maybe_charged
        self.unreached = unreached


class CallError(LLMError):
    """This question cannot be answered."""


class ProviderError(LLMError):
    """No question will be answered until someone fixes the cause."""


class BudgetError(LLMError):
    """A limit on calls, tokens, USD or time has been reached."""


class SpaceError(ColtError):
    """No valid program could be sampled."""


class ExportError(ColtError):
    """A tuned kernel that cannot be exported, or not there."""


class OutputError(ColtError):
    """What a command prints cannot be written."""


class UnfinishedError(ColtError):
    """Some runs of a comparison failed; the others are finished."""
