"""Why a backup can't be made, or not be restored."""


class BackupError(Exception):
    """What was asked can't be done; the message says why, what is unchanged, and the way out."""
