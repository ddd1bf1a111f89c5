"""The HTTP server: its connections, their limits, TLS, and the proxies whose headers it believes."""

from __future__ import annotations

import ssl
from http import HTTPStatus

import uvicorn
from fastapi import FastAPI

from services.gateway.problems import Problem
from services.infrastructure.config import Settings, SettingsError
from services.infrastructure.library_internals.tls_handshake import over_tls
from services.infrastructure.library_internals.uvicorn import HEADER_TIMEOUT_S, BoundedConnection, in_small_reads

MAX_HEAD_BYTES = 32 * 1024
KEEP_ALIVE_S = 15

_REFUSALS = (
    Problem(400, "RequestUnreadable", f"This is no HTTP/1.1 request with a head of at most {MAX_HEAD_BYTES:,} bytes."),
    Problem(408, "RequestTimeout", f"The head of the request was not whole within {HEADER_TIMEOUT_S:g} s."),
    Problem(503, "TooManyConnections", "This gateway has no connection left; try again shortly.", retry_after_s=5),
)


def http_server(app: FastAPI, connections: int, settings: Settings) -> uvicorn.Server:
    """Builds the server of an application. Raises `SettingsError` for a certificate that cannot be used."""
    tls = _tls_context(settings)

    class Connection(BoundedConnection):
        most = connections
        refusals = {problem.status: _whole_response(problem) for problem in _REFUSALS}  # noqa: RUF012 -- as declared

    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            loop="none",
            http=in_small_reads(Connection) if tls is None else over_tls(Connection, tls),  # type: ignore[arg-type]
            ws="none",  # a WebSocket would pass by the request guard
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            timeout_keep_alive=KEEP_ALIVE_S,
            proxy_headers=bool(settings.http_trusted_proxies),
            forwarded_allow_ips=list(settings.http_trusted_proxies),
        )
    )


def _tls_context(settings: Settings) -> ssl.SSLContext | None:
    certificate, key = settings.http_tls_certificate, settings.http_tls_key
    if (certificate is None) != (key is None):
        raise SettingsError("Set SWITCHBOARD_HTTP_TLS_CERTIFICATE and SWITCHBOARD_HTTP_TLS_KEY both, or neither.")
    if certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, lambda: "")
    except (OSError, ValueError):
        raise SettingsError(
            "SWITCHBOARD_HTTP_TLS_CERTIFICATE and SWITCHBOARD_HTTP_TLS_KEY cannot be used: they must be PEM files of a "
            "certificate, with its chain, and of its key without a password."
        ) from None
    return context


def _whole_response(problem: Problem) -> bytes:
    """Returns a response as it is sent, for a connection that has no route to answer it."""
    response = problem.response({"Connection": "close", "X-Content-Type-Options": "nosniff"})
    head = f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n".encode()
    fields = b"".join(name + b": " + value + b"\r\n" for name, value in response.raw_headers)
    return head + fields + b"\r\n" + bytes(response.body)
