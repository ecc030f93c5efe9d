"""`python -m bulkmail` is the command `bulkmail`."""

import signal


def main() -> None:
    """The console script.

    While it starts, Ctrl-C ends the process itself: as an exception it could be lost where a
    library calls back, and the command would go on. Where it is ignored it stays so.
    """
    raises = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if raises:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from bulkmail.cli import commands

    if raises:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    commands(prog_name="bulkmail")


if __name__ == "__main__":
    main()
