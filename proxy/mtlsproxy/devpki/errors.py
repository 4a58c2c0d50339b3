"""What every part of the development CA raises."""


class PkiError(Exception):
    """Something about the PKI's files or the request is wrong. The message names what, and how to mend it."""
