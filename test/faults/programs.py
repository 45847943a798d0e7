"""Programs of this project without the seconds that it takes to import torch and ESPnet2: a process that has them is forked.

A program runs as `python3 -m` runs it, in a session of its own, with its own environment and standard output.
"""

from __future__ import annotations

import json
import os
import runpy
import socket
import socketserver
import sys
import traceback
from typing import NoReturn


def run(module: str, argv: list[str], cwd: str, env: dict[str, str], said: str) -> NoReturn:
    """Be that program."""
    import sitecustomize

    os.setsid()
    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[0] = cwd
    sys.argv = [module, *argv]
    sitecustomize.inject(env.get("KD_FAULT", ""))
    status = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001  (a program ends with a traceback whatever it was)
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


class Request(socketserver.StreamRequestHandler):
    """A program to run, as JSON; the answer is its exit status, negative for a signal."""

    def handle(self) -> None:
        request = json.loads(self.rfile.readline())
        child = os.fork()
        if child == 0:
            run(**request)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        self.wfile.write(f"{status}\n".encode())


class Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    """Takes requests at a socket, each in a process of its own."""


def ask(address: str, **request: object) -> int:
    """Have a program run; exit status."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        connection.sendall(json.dumps(request).encode() + b"\n")
        return int(connection.makefile().readline())


def main() -> None:
    import espnet2_kd.asr.recognizer
    import espnet2_kd.tasks.asr
    import espnet2_kd.tasks.cache_inputs  # noqa: F401

    with Server(sys.argv[1], Request) as server:
        print("ready", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
