"""`python -m quantize`."""

from __future__ import annotations

import signal

if __name__ == "__main__":
    # As `quick_to_die` says, which is itself a tenth of a second away.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from quantize.cli import program

    program()
