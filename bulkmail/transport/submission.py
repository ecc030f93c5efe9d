"""A submission server (RFC 6409): aiosmtplib connects, verifies TLS, says EHLO and logs in; then
its transport is handed to a `Session`.

Raises ServerUnreachableError where another attempt may help, ServerError and LoginError where it
would not. The login is tried once, with one mechanism, and never in clear.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import cast

import aiosmtplib

from bulkmail.errors import (
    BulkmailError,
    LoginError,
    MissingFileError,
    ServerError,
    ServerUnreachableError,
)
from bulkmail.model import Security, Submission
from bulkmail.smtp.announced import Announced
from bulkmail.smtp.reply import make_reply, printable
from bulkmail.transport.dialling import Dialler
from bulkmail.transport.pipelining import Pipelining
from bulkmail.transport.session import Session, Timeouts

LOGIN_METHODS = ("plain", "login", "cram-md5")
"""In this order: over TLS the simplest is the one that servers implement best."""

_APP_PASSWORD = (
    "Gmail does not take your usual password here: make an app password (16 letters) at"
    " https://myaccount.google.com/apppasswords"
)
_LOGIN_HINTS = {
    "5.7.9 ": _APP_PASSWORD,
    "support.google.com": _APP_PASSWORD,
    "5.7.8 ": "Is it the password of this server, and the whole address as username?",
    "5.7.139": "Microsoft has SMTP AUTH disabled for this mailbox; an administrator can enable it",
}


_BROKEN_OFF = (
    ssl.SSLEOFError,
    ssl.SSLSyscallError,
    ssl.SSLWantReadError,
    ssl.SSLWantWriteError,
    ssl.SSLZeroReturnError,
)
"""What TLS says where the connection ended amid it, which is not about TLS."""


@dataclass(frozen=True, slots=True)
class Greeted:
    """What a server told: what of it counts for messages, all its EHLO keywords with their
    parameters, and the version of TLS, if there is any.
    """

    announced: Announced
    extensions: Mapping[str, str]
    tls: str | None


class SubmissionServer:
    """Opens sessions. One TLS context serves them all. `on_remark` is told a line for the user."""

    def __init__(
        self,
        submission: Submission,
        timeouts: Timeouts | None = None,
        on_remark: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._submission = submission
        self._timeouts = timeouts or Timeouts()
        self._tls_context: ssl.SSLContext | None = None
        self.name = f"{submission.host}:{submission.port}"
        self._dialler = Dialler(submission.host, submission.port)
        self._pipelining = Pipelining(
            lambda: on_remark(
                f"{self.name} announces PIPELINING, but sessions break with it:"
                " from now on it gets one command at a time, which is slower"
            ),
            wanted=submission.pipelining,
            window=submission.window,
        )

    async def connect(self) -> Session:
        """A session that is ready for mail."""
        client = await self._connected()
        transport = _transport(client)
        assert transport is not None
        conversation, ended = self._pipelining.conversation(announced(client.esmtp_extensions))
        return Session(transport, conversation, self._timeouts, ended)

    async def look(self) -> "Greeted":
        """What the server says to whoever logs in; then goodbye. Raises what `connect` raises."""
        client = await self._connected()
        tls = client.get_transport_info("ssl_object")
        greeted = Greeted(
            announced(client.esmtp_extensions),
            {name.upper(): text for name, text in client.esmtp_extensions.items()},
            None if tls is None else str(tls.version()),
        )
        with suppress(aiosmtplib.SMTPException):
            await client.quit()
        return greeted

    async def _connected(self) -> aiosmtplib.SMTP:
        """Connected, introduced and logged in."""
        client = aiosmtplib.SMTP(
            hostname=self._submission.host,
            use_tls=self._submission.security is Security.TLS,
            start_tls=False,
            tls_context=self._tls(),
            timeout=self._timeouts.connect,
            local_hostname=self._submission.helo or "localhost",
        )
        place = None
        try:
            async with asyncio.timeout(self._timeouts.connect):
                connection, place = await self._dialler.dial(self._timeouts.connect)
                await self._prepare(client, connection)
        except BaseException as error:
            _abandon(client)
            if place is not None:
                self._dialler.came_to_nothing(place)
            if isinstance(error, Exception) and not isinstance(error, BulkmailError):
                raise self._explained(error) from error
            raise
        return client

    async def _prepare(self, client: aiosmtplib.SMTP, connection: socket.socket) -> None:
        await client.connect(sock=connection)
        helo = self._submission.helo or _address_literal(client)
        await _introduce(client, helo)
        if self._submission.security is Security.STARTTLS:
            if not client.supports_extension("starttls"):
                raise ServerError(
                    f"{self.name} does not offer STARTTLS; nothing was sent and no login tried."
                    " Is it port 465 with security: tls?"
                )
            await client.starttls()
            await client.ehlo(hostname=helo)
        if self._submission.username is not None:
            await self._login(client)

    async def _login(self, client: aiosmtplib.SMTP) -> None:
        username, password = self._submission.username, self._submission.password
        assert username is not None and password is not None
        offered = [method.lower() for method in client.server_auth_methods]
        method = next((method for method in LOGIN_METHODS if method in offered), None)
        if method is None:
            raise ServerError(
                f"{self.name} offers no login that bulkmail knows"
                f" (it offers {', '.join(offered) or 'none'}; known are {', '.join(LOGIN_METHODS)})"
            )
        log_in = {
            "plain": client.auth_plain,
            "login": client.auth_login,
            "cram-md5": client.auth_crammd5,
        }[method]
        try:
            await log_in(username, password)
        except aiosmtplib.SMTPAuthenticationError as error:
            raise self._login_refused(error) from None

    def _login_refused(self, error: aiosmtplib.SMTPAuthenticationError) -> BulkmailError:
        said = str(make_reply(error.code, error.message.encode("utf-8", "surrogateescape")))
        if 400 <= error.code < 500:
            return ServerUnreachableError(f"{self.name} could not check the login: {said}")
        text = f"{self.name} refused the login of {self._submission.username}:\n  {said}"
        hint = next((hint for mark, hint in _LOGIN_HINTS.items() if mark in said), None)
        return LoginError(f"{text}\n{hint}" if hint else text)

    def _explained(self, error: Exception) -> BulkmailError:
        """What aiosmtplib or asyncio raised, as what it means for the run."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return ServerError(
                    f"the certificate of {self.name} cannot be trusted: {cause.verify_message};"
                    " nothing was sent and no login tried. For a private CA set smtp.ca_file"
                )
            if isinstance(cause, ssl.SSLError) and not isinstance(cause, _BROKEN_OFF):
                reason = _shown(cause.reason).replace("_", " ").lower()
                return ServerError(
                    f"no TLS with {self.name}: {reason}; nothing was sent and no login tried."
                    " Is security: right for this port?"
                )
            if isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME:
                return ServerError(
                    f"the name {self._submission.host} is not known; is it misspelt?"
                )
            cause = cause.__cause__ or cause.__context__
        if isinstance(error, aiosmtplib.SMTPResponseException) and 500 <= error.code < 600:
            said = f"{error.code} {_shown(error.message)}"
            return ServerError(f"{self.name} refuses this client: {said}")
        # What aiosmtplib says of a connection names no port, since it was handed the socket.
        cause = error.__cause__ if isinstance(error, aiosmtplib.SMTPConnectError) else None
        what = _shown(cause or error) or "it closed the connection"
        if isinstance(error, TimeoutError):
            what = "it did not answer in time"
        return ServerUnreachableError(f"{self.name} cannot be reached: {what}")

    def _tls(self) -> ssl.SSLContext:
        if self._tls_context is None:
            try:
                self._tls_context = _trusting(self._submission)
                # RFC 8996. Not every system's Python asks for it by itself.
                self._tls_context.minimum_version = ssl.TLSVersion.TLSv1_2
            except (OSError, ssl.SSLError) as error:
                message = f"{self._submission.ca_file} (smtp.ca_file): {error}"
                raise MissingFileError(message) from None
        return self._tls_context


def _trusting(submission: Submission) -> ssl.SSLContext:
    """A context with the authorities of the campaign, or of the system if it names none."""
    if submission.ca_pem is None:
        return ssl.create_default_context(cafile=submission.ca_file)
    try:
        return ssl.create_default_context(cadata=submission.ca_pem or "\n")  # "" is the system's
    except ssl.SSLError:
        message = f"{submission.ca_file} (smtp.ca_file) holds no certificates in PEM"
        raise MissingFileError(message) from None


def announced(extensions: Mapping[str, str]) -> Announced:
    """What the EHLO reply says: keywords in lower case, each with the text after it.

    SIZE without a number, with 0 or with anything else (RFC 1870 4) sets no limit.
    """
    number = re.match(r"[0-9]{1,20}(?=\s|$)", extensions.get("size", "").strip())
    return Announced(
        pipelining="pipelining" in extensions,
        chunking="chunking" in extensions,
        size="size" in extensions,
        max_bytes=(int(number[0]) or None) if number else None,
        smtputf8="smtputf8" in extensions,
        eightbitmime="8bitmime" in extensions,
    )


async def _introduce(client: aiosmtplib.SMTP, helo: str) -> None:
    """RFC 5321 3.2: a server that does not know EHLO is told HELO, and has no extensions."""
    try:
        await client.ehlo(hostname=helo)
    except aiosmtplib.SMTPHeloError as error:
        if not 500 <= error.code <= 504:
            raise
        await client.helo(hostname=helo)


def _address_literal(client: aiosmtplib.SMTP) -> str:
    """RFC 5321 4.1.3: how a client without a name of its own in the DNS introduces itself."""
    address = ip_address(client.get_transport_info("sockname")[0].partition("%")[0])
    return f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"


def _abandon(client: aiosmtplib.SMTP) -> None:
    transport = _transport(client)
    client.close()
    if transport is not None:
        transport.abort()


def _transport(client: aiosmtplib.SMTP) -> asyncio.Transport | None:
    """Those of uvloop are of this kind without being of this class."""
    return cast("asyncio.Transport | None", client.transport)


def _shown(text: object) -> str:
    return printable(str(text).encode("utf-8", "surrogateescape"))
