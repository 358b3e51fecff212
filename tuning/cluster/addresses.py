"""Finds the Ray cluster that a command joins; answers within seconds where there is none."""

import ipaddress
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from common.errors import UserError
from tuning.cluster import ray_private
from tuning.cluster.ray_private import HeadAnswer

LOCAL = "local"  # the address of a cluster that a command starts and ends
AUTO = "auto"  # the address of the cluster that runs on this machine
USUAL_FOLDER = "/tmp/ray"  # where `ray start` notes its address, unless a variable names another
TIMEOUT_SECONDS = 5.0  # of each question to a head
# The start of HTTP/2, on which gRPC builds: the server answers with its settings.
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
HTTP2_FRAME_HEADER_BYTES = 9
HTTP2_SETTINGS = 4
TOKEN_REFUSED = (
    "refuses this user's token (~/.ray/auth_token, RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN)"
)


def find_cluster(asked: str | None) -> str | None:
    """Return the address of the Ray cluster to join; None for a local one of this command's own.

    ``--address``, then the variable ``RAY_ADDRESS``, where ``local`` asks for one of this command's
    own and ``auto`` for the one that runs on this machine; then a cluster that ``ray start`` or
    ``ray up`` left running on this machine, unless it is another user's.

    Raises:
        UserError: If no cluster answers at the given address, or the cluster refuses the token.
    """
    for source, given in (("--address", asked), ("RAY_ADDRESS", os.environ.get("RAY_ADDRESS"))):
        if given == LOCAL:
            return None
        if given == AUTO:
            return _find_running_cluster(source)
        if given:
            return _check_address(source, given)
    for address in _list_noted_addresses():
        if not (reason := _find_problem(address)):
            return address
        if reason == TOKEN_REFUSED:
            refusal = f"the Ray cluster at '{address}', found on this machine, {TOKEN_REFUSED}"
            print(f"{refusal}: starting a local one", file=sys.stderr)
            return None
    return None


def _check_address(source: str, address: str) -> str:
    """Return an address if a cluster can be joined there.

    Args:
        source: The option or variable that names it, for the message.
        address: The address.

    Raises:
        UserError: If it cannot.
    """
    reason = _find_problem(address)
    if reason == TOKEN_REFUSED:
        raise UserError(
            f"{source}: the Ray cluster at '{address}' {TOKEN_REFUSED}; copy the token "
            f"from its head, or start a local cluster with --address {LOCAL}"
        )
    if reason:
        raise UserError(f"{source}: no Ray cluster at '{address}': {reason}")
    return address


def _list_noted_addresses() -> list[str]:
    """Return the addresses that ``ray start`` noted on this machine.

    Ray notes it in the temporary folder, which may differ between its environment and ours.
    """
    noted = [ray_private.read_noted_address(folder) for folder in (None, USUAL_FOLDER)]
    return list(dict.fromkeys(address for address in noted if address))


def _find_running_cluster(source: str) -> str:
    """Return the address of a cluster that runs on this machine and is no command's own.

    Args:
        source: The option or variable that asks for it, for the message.

    Raises:
        UserError: If there is none.
    """
    running = ray_private.list_running_addresses()
    own = [address for address in running if _is_loopback(address.rpartition(":")[0])]
    candidates = dict.fromkeys([*_list_noted_addresses(), *running])
    problems = {a: _find_problem(a) for a in candidates if a not in own}
    for address, reason in problems.items():
        if not reason:
            return address
    for address in running:
        if problems.get(address):
            _check_address(source, address)
    others = f" other than a command's own ({', '.join(own)})" if own else ""
    raise UserError(
        f"{source}: received '{AUTO}', but no Ray cluster runs on this machine{others}; start one "
        f"with `ray start --head`, or use --address {LOCAL}"
    )


def _find_problem(address: str) -> str:
    """Return why no cluster can be joined at an address; empty if it can.

    Ray itself would try for minutes. An address of loopback may be a cluster that listens there
    only, or one that listens on this machine's other address, which Ray tries alone.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if "/" in address or not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        return f"expected HOST:PORT of its head, {AUTO} or {LOCAL}"
    hosts = [host]
    if _is_loopback(host):
        hosts = [ray.util.get_node_ip_address(), "127.0.0.1"]
    problem = ""
    for reached in dict.fromkeys(hosts):
        problem = _find_connection_problem(reached, int(port))
        if not problem:
            problem = _find_head_problem(f"{reached}:{port}")
            if not problem and _is_loopback(reached):
                ray_private.listen_on_loopback()
            return problem
    return problem


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def _find_connection_problem(host: str, port: int) -> str:
    """Return why no gRPC server answers, such as the head of a cluster; empty if one does."""
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT_SECONDS) as connection:
            connection.sendall(HTTP2_PREFACE)
            answer = connection.recv(HTTP2_FRAME_HEADER_BYTES, socket.MSG_WAITALL)
    except TimeoutError:
        return f"no answer within {TIMEOUT_SECONDS:g} s"
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    is_grpc = len(answer) == HTTP2_FRAME_HEADER_BYTES and answer[3] == HTTP2_SETTINGS
    return "" if is_grpc else "another program listens there"


def _find_head_problem(address: str) -> str:
    with _hide_stderr():
        answer = ray_private.ask_head(address, TIMEOUT_SECONDS)
    return {
        HeadAnswer.JOINS: "",
        HeadAnswer.REFUSES_TOKEN: TOKEN_REFUSED,
        HeadAnswer.NO_ANSWER: "the server there does not answer as the head of a cluster",
        HeadAnswer.NOT_A_NODE: "this machine is not one of its nodes; run the command on one, or "
        f"let this machine join with `ray start --address={address}`",
    }[answer]


@contextmanager
def _hide_stderr() -> Iterator[None]:
    """Hide the output of Ray's C++ code on the standard error."""
    sys.stderr.flush()
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(null)
        os.close(kept)
