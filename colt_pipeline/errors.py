"""Everything that this package raises on purpose.

ColtError
├── ConfigError            a flag, key, choice or type in the configuration
├── StackError             the installed packages do not fit together
├── DeviceError            no such device, RPC tracker or server
├── RunDirError            a run directory that is unwritable or holds another run
├── JournalError           a JSON Lines file that is broken or in use by another process
├── RecordingError
│   ├── ReplayMissError    replay asked for something that was not recorded
│   └── DeviceMismatchError a ledger or journal of another device
├── LLMError               a live call without an answer
│   ├── TransientError     may succeed when tried again: rate limit, time-out, lost connection, server error
│   ├── CallError          this question cannot be answered: bad request, context overflow
│   ├── ProviderError      no question will be: bad key, no quota, no such model, server gone
│   └── BudgetError        a limit on calls, tokens, USD or time is reached
├── SpaceError             no valid program could be sampled
└── UnfinishedError        some runs of a comparison failed

Every message names the offending value and the way out. Inside the search a failure is a value (Rejection,
Measurement.error), not an exception.
"""

from __future__ import annotations


class ColtError(Exception):
    """Base of all errors that are shown to the user as one message, without a traceback."""


class ConfigError(ColtError):
    """A flag, key, choice or type in the configuration."""


class StackError(ColtError):
    """The installed packages do not fit together."""


class DeviceError(ColtError):
    """No such device, RPC tracker or server."""


class RunDirError(ColtError):
    """A run directory that is unwritable or holds another run."""


class JournalError(ColtError):
    """A JSON Lines file that is broken or in use by another process."""


class RecordingError(ColtError):
    """A recording that cannot serve this run."""


class ReplayMissError(RecordingError):
    """Replay asked for something that was not recorded."""


class DeviceMismatchError(RecordingError):
    """A ledger or journal of another device."""


class LLMError(ColtError):
    """A live call without an answer."""


class TransientError(LLMError):
    """Another attempt may succeed."""

    def __init__(
        self,
        message: str,
        retry_after_secs: float | None = None,
        maybe_charged: bool = False,
        unreached: bool = False,
    ) -> None:
        """`retry_after_secs`: when the server wants to be asked again, if it said so.

        `maybe_charged`: it may have computed an answer that did not arrive; `unreached`: nobody was there.
        """
        super().__init__(message)
        self.retry_after_secs = retry_after_secs
        self.maybe_charged = maybe_charged
        self.unreached = unreached


class CallError(LLMError):
    """This question cannot be answered."""


class ProviderError(LLMError):
    """No question will be answered until a person has mended something."""


class BudgetError(LLMError):
    """A limit on calls, tokens, USD or time is reached."""


class SpaceError(ColtError):
    """No valid program could be sampled."""


class UnfinishedError(ColtError):
    """Some runs of a comparison failed; the others are finished."""
