"""Becomes another program, which gets a signal when the process that started it dies.

Run as a script, by path, with the standard library only: it must start in a few milliseconds and
work for a user who may read nothing else of the checkout. It exists because code between fork and
exec (`preexec_fn`) is unsafe in a process with threads, and gRPC has threads.

Arguments: the number of the parent process, the number of the signal, how to run (`plain`,
`namespace` or `nobody`), then the program and its arguments.
"""

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000


def main(arguments: list[str]) -> None:
    """Changes the user if asked, arranges the signal, then becomes the program."""
    parent, death_signal, how, *argv = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    if how == "namespace":
        enter_user_namespace(libc)
    elif how == "nobody":
        become_nobody()
    # After the change of user, which clears it.
    if sys.platform == "linux":
        libc.prctl(PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != int(parent):
            sys.exit("the parent process died before its child started")
    try:
        os.execvpe(argv[0], argv, os.environ)  # noqa: S606 - the program is our caller's choice
    except OSError as error:
        sys.exit(f"can't run {argv[0]}: {error.strerror}")


def enter_user_namespace(libc: ctypes.CDLL) -> None:
    """Makes this process look like nobody to itself while files stay those of the real user."""
    if libc.unshare(CLONE_NEWUSER) != 0:
        sys.exit(f"no user namespace: {os.strerror(ctypes.get_errno())}")


def become_nobody() -> None:
    """Drops root for the user nobody, with no supplementary groups."""
    nobody = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setgid(nobody.pw_gid)
    os.setuid(nobody.pw_uid)


if __name__ == "__main__":
    main(sys.argv[1:])
