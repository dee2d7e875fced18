"""Errors by which the state machine decides: their class names are its error names."""


class Busy(Exception):  # noqa: N818 - the state machine's vocabulary
    """Another release of this model is under way: try again later."""


class NotReady(Exception):  # noqa: N818
    """Something that another part is about to make is not there yet: try again later."""


class LeaseLost(Exception):  # noqa: N818
    """Another execution took the model's lease over: this one must not write any more."""


class Permanent(Exception):  # noqa: N818
    """Trying again cannot help."""


class Forbidden(Exception):  # noqa: N818
    """The registry or the cluster does not allow this function what it asked for."""


class Conflict(Exception):  # noqa: N818
    """A record changed since it was read; the step is run again and sees what was done."""
