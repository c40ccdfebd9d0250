"""A workload that uses py-spiffe, as a stranger's program would. One command a run:

    fetch ID                     SVID and bundles; the chain is verified with `cryptography`
    renew ID SECONDS RENEWALS    at every instant a valid SVID; at least so many new ones
    jwt ID AUDIENCE              fetch; validate locally and by ValidateJWTSVID; a wrong audience is refused
    serve ID PEER                mutual TLS: answers PEER, once, after refusing whoever else comes
    dial ADDRESS PEER            mutual TLS: says hello to PEER
    refused ADDRESS PEER         as dial, and the server must not answer
    converse ID MILLISECONDS     mutual TLS without end: says `listening ADDRESS`; reads lines `ID ADDRESS`, one a peer, then
                                 `begin`, from standard input; answers all of them, and dials the next one every so many
                                 milliseconds, until it reads and says `quiet`; answers on until standard input is closed.
                                 Of each time that it dialled it says `ok MILLISECONDS` or
                                 `failed BEGUN MILLISECONDS ID WHY`

The Workload API is found by SPIFFE_ENDPOINT_SOCKET. What went wrong is printed; the exit code says whether.
"""

import datetime
import itertools
import signal
import socket
import struct
import sys
import threading
import time
import warnings

from cryptography.x509 import verification
from OpenSSL import SSL
from spiffe import JwtSvid, SpiffeId, WorkloadApiClient, X509Source
from spiffetls import ListenOptions, ServerTlsMode, dial, listen
from spiffetls.context import create_ssl_context
from spiffetls.errors import TLSConnectionError
from spiffetls.tlsconfig.authorize import authorize_id, authorize_one_of

# No step may take longer; a renewal adds the time that it was asked to watch.
PATIENCE_SECONDS = 30
# How often the watcher looks: far more often than anything expires.
GLANCE_SECONDS = 0.02
# The longest line that a peer may say.
LINE_LIMIT = 1024
# No handshake may take longer, on cores as busy as they get in a test.
HANDSHAKE_SECONDS = 10


class Wrong(Exception):
    """What was received is not what has to be."""


def same(want, got):
    """Fails unless the two SPIFFE IDs are one."""
    if str(got) != want:
        raise Wrong(f"got {got}, not {want}")


def now():
    """The present instant, with its time zone."""
    return datetime.datetime.now(datetime.timezone.utc)


def verify(chain, authorities):
    """Builds the path from the leaf to one of the authorities, by the rules of RFC 5280."""
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store(list(authorities)))
        .time(now())
        .build_client_verifier()
    )
    verifier.verify(chain[0], chain[1:])


def fetch(want):
    """The SVID and both bundles."""
    with WorkloadApiClient() as client:
        svid = client.fetch_x509_svid(timeout=PATIENCE_SECONDS)
        same(want, svid.spiffe_id)
        trust_domain = svid.spiffe_id.trust_domain
        x509 = client.fetch_x509_bundles(timeout=PATIENCE_SECONDS).get_bundle_for_trust_domain(trust_domain)
        jwt = client.fetch_jwt_bundles(timeout=PATIENCE_SECONDS).get_bundle_for_trust_domain(trust_domain)
    if not x509 or not jwt or not x509.x509_authorities or not jwt.jwt_authorities:
        raise Wrong("a bundle is empty")
    verify(svid.cert_chain, x509.x509_authorities)
    print(
        f"fetched {want}: chain of {len(svid.cert_chain)}, {len(x509.x509_authorities)} X.509 "
        f"and {len(jwt.jwt_authorities)} JWT authorities"
    )


def renew(want, seconds, renewals):
    """Looks at the source again and again: each time its SVID must be valid, and it must be replaced in time."""
    serials, glances, shortest = set(), 0, float("inf")
    with X509Source(timeout_in_seconds=PATIENCE_SECONDS) as source:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            svid = source.get_x509_context().default_svid
            same(want, svid.spiffe_id)
            instant = now()
            for certificate in svid.cert_chain:
                begin, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
                if not begin <= instant <= until:
                    raise Wrong(f"valid from {begin} to {until}, it is {instant}: a gap")
            shortest = min(shortest, (svid.leaf.not_valid_after_utc - instant).total_seconds())
            serials.add(svid.leaf.serial_number)
            glances += 1
            time.sleep(GLANCE_SECONDS)
    if len(serials) - 1 < renewals:
        raise Wrong(f"{len(serials) - 1} renewals in {seconds} s, {renewals} were expected")
    print(
        f"{len(serials) - 1} renewals in {seconds} s, valid at each of {glances} glances, "
        f"at least {shortest:.1f} s left"
    )


def jwt(want, audience):
    """A token: fetched, validated with the bundle, validated by the Workload API, refused for another audience."""
    with WorkloadApiClient() as client:
        token = client.fetch_jwt_svid({audience}, timeout=PATIENCE_SECONDS).token
        bundles = client.fetch_jwt_bundles(timeout=PATIENCE_SECONDS)
        bundle = bundles.get_bundle_for_trust_domain(SpiffeId(want).trust_domain)
        same(want, JwtSvid.parse_and_validate(token, bundle, {audience}).spiffe_id)
        same(want, client.validate_jwt_svid(token, audience, timeout=PATIENCE_SECONDS).spiffe_id)
        try:
            client.validate_jwt_svid(token, audience + "-other", timeout=PATIENCE_SECONDS)
        except Exception as refusal:  # pylint: disable=broad-exception-caught
            print(f"another audience: {refusal}")
        else:
            raise Wrong("ValidateJWTSVID took a token for another audience")
    print(f"token of {want} for {audience}: valid locally and by the Workload API")


def read_line(connection):
    """One line, or what came before the end."""
    line = b""
    while not line.endswith(b"\n") and len(line) < LINE_LIMIT:
        line += connection.recv(LINE_LIMIT)
    return line.decode()


def serve(own, peer):
    """Answers `peer` once; whoever else comes is turned away by the handshake."""
    options = ListenOptions(tls_mode=ServerTlsMode.MTLS, authorize_fn=authorize_id(SpiffeId(peer)))
    with X509Source(timeout_in_seconds=PATIENCE_SECONDS) as source:
        listener = listen("127.0.0.1:0", source, options)
        host, port = listener.getsockname()
        print(f"listening {host}:{port}", flush=True)
        turned_away = 0
        while True:
            connection, _ = listener.accept()
            try:
                connection.do_handshake()
                line = read_line(connection)
                connection.sendall(f"hello from {own}\n".encode())
                connection.shutdown()
            except (SSL.Error, OSError) as refusal:
                turned_away += 1
                print(f"turned away: {refusal}", flush=True)
            else:
                print(f"{own} answered {line!r} of {peer}, turned away {turned_away}")
                return
            finally:
                connection.close()


def greet(address, peer):
    """Says hello to `peer`, returns what it says."""
    with X509Source(timeout_in_seconds=PATIENCE_SECONDS) as source:
        connection = dial(address, source, authorize_fn=authorize_id(SpiffeId(peer)))
        try:
            connection.sendall(b"hello\n")
            return read_line(connection)
        finally:
            connection.close()


def say_hello(address, peer):
    """Says hello to `peer` and hears its answer."""
    line = greet(address, peer)
    if line != f"hello from {peer}\n":
        raise Wrong(f"{peer} said {line!r}")
    print(f"mutual TLS with {peer}")


def be_refused(address, peer):
    """Says hello to a `peer` that expects somebody else."""
    try:
        line = greet(address, peer)
    except (SSL.Error, TLSConnectionError, OSError) as refusal:
        print(f"refused: {refusal!r}")
    else:
        raise Wrong(f"{peer} answered a stranger: {line!r}")


class Moment:
    """What a source holds at one moment, as the TLS helpers take it.

    Given the source itself, they change a context when an update comes, certificate and key one after the other, while
    handshakes use it; and none of their contexts is ever forgotten by the source.
    """

    def __init__(self, source):
        context = source.get_x509_context()
        self.svid = context.default_svid
        self.bundles = context.x509_bundle_set.bundles

    def subscribe_for_updates(self, callback):
        """There will be none."""


def converse(own, milliseconds):
    """Dials peers until it is to be quiet, and answers them until standard input is closed."""
    with X509Source(timeout_in_seconds=PATIENCE_SECONDS) as source:
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        host, port = listener.getsockname()
        print(f"listening {host}:{port}", flush=True)
        peers = []
        for line in iter(sys.stdin.readline, "begin\n"):
            peer, address = line.split()
            peers.append((SpiffeId(peer), address))
        # From here on it lives as long as whoever started it.
        signal.alarm(0)
        quiet, over = threading.Event(), threading.Event()
        threading.Thread(target=listen_for, args=(quiet, over), daemon=True).start()
        known = {peer for peer, _ in peers}
        threading.Thread(target=answer_all, args=(listener, source, own, known), daemon=True).start()
        due = time.monotonic()
        for peer, address in itertools.cycle(peers):
            due = max(due + milliseconds / 1000, time.monotonic())
            if quiet.wait(due - time.monotonic()):
                break
            dial_once(source, peer, address)
        print("quiet", flush=True)
        over.wait()


def listen_for(quiet, over):
    """Hears the word to be quiet, and then the end."""
    for line in sys.stdin:
        if line == "quiet\n":
            quiet.set()
    quiet.set()
    over.set()


def answer_all(listener, source, own, known):
    """Answers whoever comes and is one of those that are known."""
    while True:
        accepted, _ = listener.accept()
        threading.Thread(target=answer_one, args=(accepted, source, own, known), daemon=True).start()


def answer_one(accepted, source, own, known):
    """The one that dialled tells how it went."""
    try:
        bound(accepted)
        verify_mode = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        context = create_ssl_context(SSL.TLS_SERVER_METHOD, Moment(source), authorize_one_of(known), verify_mode)
        connection = SSL.Connection(context, accepted)
        connection.set_accept_state()
        connection.do_handshake()
        read_line(connection)
        connection.sendall(f"hello from {own}\n".encode())
        connection.shutdown()
    except (SSL.Error, OSError):
        pass
    finally:
        accepted.close()


def dial_once(source, peer, address):
    """One handshake, and a line each way."""
    begun = time.time()
    why = None
    try:
        context = create_ssl_context(SSL.TLS_CLIENT_METHOD, Moment(source), authorize_id(peer), SSL.VERIFY_PEER)
        host, port = address.split(":")
        with socket.create_connection((host, int(port)), timeout=HANDSHAKE_SECONDS) as plain:
            bound(plain)
            connection = SSL.Connection(context, plain)
            connection.set_connect_state()
            connection.do_handshake()
            connection.sendall(b"hello\n")
            line = read_line(connection)
        if line != f"hello from {peer}\n":
            why = f"it said {line!r}"
    except Exception as failure:  # pylint: disable=broad-exception-caught
        why = f"{type(failure).__name__}: {failure}"
    took = int((time.time() - begun) * 1000)
    if why is None:
        print(f"ok {took}", flush=True)
    else:
        why = " ".join(why.split())
        print(f"failed {int(begun * 1000)} {took} {peer} {why}", flush=True)


def bound(connection):
    """Bounds every wait of a connection, and leaves it blocking: OpenSSL would tell of a time limit of Python's by an error."""
    connection.setblocking(True)
    limit = struct.pack("ll", HANDSHAKE_SECONDS, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def main(arguments):
    """Does one command."""
    # The TLS helpers read the source in a way that the library has since deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    limit = PATIENCE_SECONDS + (int(arguments[2]) if arguments[:1] == ["renew"] else 0)
    # What hangs is ended by the system: the default action of the alarm is death.
    signal.alarm(limit)
    match arguments:
        case ["fetch", want]:
            fetch(want)
        case ["renew", want, seconds, renewals]:
            renew(want, int(seconds), int(renewals))
        case ["jwt", want, audience]:
            jwt(want, audience)
        case ["serve", own, peer]:
            serve(own, peer)
        case ["dial", address, peer]:
            say_hello(address, peer)
        case ["refused", address, peer]:
            be_refused(address, peer)
        case ["converse", own, milliseconds]:
            converse(own, int(milliseconds))
        case _:
            raise Wrong("usage: fetch|renew|jwt|serve|dial|refused|converse ...")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Exception as failure:  # pylint: disable=broad-exception-caught
        print(f"python client: {type(failure).__name__}: {failure}", file=sys.stderr)
        sys.exit(1)
