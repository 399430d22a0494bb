"""Runs a program on a terminal of its own, 100 columns by 30 rows.

    terminal.py PROGRAM [ARGUMENT...]

What is typed comes from standard input; what is shown goes to standard output.
On standard error stands first the program's process id, and last how it ended:
{"status": 0, "restored": true}, restored if the terminal has the settings that
it began with.
"""

import fcntl
import json
import os
import pty
import select
import struct
import sys
import termios


def main():
    program, terminal = pty.fork()
    if program == 0:
        # It waits for its size, or it would begin with another.
        sys.stdin.readline()
        os.execvp(sys.argv[1], sys.argv[1:])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    before = termios.tcgetattr(terminal)
    os.write(terminal, b"\n")
    print(json.dumps({"pid": program}), file=sys.stderr, flush=True)
    status = None
    typing = [0]
    while True:
        ready, _, _ = select.select([terminal, *typing], [], [], 0.05)
        if terminal in ready:
            try:
                shown = os.read(terminal, 65536)
            except OSError:
                shown = b""
            if not shown:
                break
            os.write(1, shown)
        elif status is not None:
            break
        if 0 in ready:
            typed = os.read(0, 4096)
            if typed:
                os.write(terminal, typed)
            else:
                typing = []
        if status is None:
            ended, how = os.waitpid(program, os.WNOHANG)
            status = how if ended else None
    if status is None:
        _, status = os.waitpid(program, 0)
    restored = termios.tcgetattr(terminal) == before
    print(json.dumps({"status": os.waitstatus_to_exitcode(status), "restored": restored}), file=sys.stderr)


main()
