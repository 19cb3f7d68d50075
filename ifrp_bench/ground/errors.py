"""The one error that a user can cause. The command line prints its text as one line and exits with 1."""


class InputError(Exception):
    """Something that came from outside is wrong: the text says what was
    expected, what came, where, and how to mend it.
    """
