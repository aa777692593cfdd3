"""A mail server for tests: aiosmtpd, which speaks real ESMTP with STARTTLS and AUTH.

It writes its port to stdout, then one line of JSON for each thing that happens. It ends with its stdin.
"""

import asyncio
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

options = json.loads(sys.argv[1])


def tell(**what):
    print(json.dumps(what), flush=True)


class Handler:
    async def handle_EHLO(self, server, session, envelope, hostname):
        session.host_name = hostname
        tell(event="ehlo", encrypted=session.ssl is not None)
        return "250 HELP"

    async def handle_MAIL(self, server, session, envelope, address, mail_options):
        tell(event="mail", encrypted=session.ssl is not None or options["tls"] == "tls")
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if address.startswith("nobody@"):
            return "550 5.1.1 there is no such person"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if options.get("full"):
            return "452 4.3.1 there is no room"
        letter = email.message_from_bytes(envelope.content, policy=email.policy.default)
        tell(
            event="letter",
            sender=envelope.mail_from,
            to=envelope.rcpt_tos,
            headers=[[name, str(value)] for name, value in letter.items()],
            kind=letter.get_content_type(),
            body=letter.get_content(),
            longest=max(len(line) for line in envelope.content.split(b"\r\n")),
            ascii=envelope.content.isascii(),
        )
        return "250 taken"


def authenticate(server, session, envelope, mechanism, data):
    ok = isinstance(data, LoginPassword) and data.login == b"stackferry" and data.password == options["password"].encode()
    encrypted = session.ssl is not None or options["tls"] == "tls"
    tell(event="auth", mechanism=mechanism, ok=ok, encrypted=encrypted)
    # A server that is careless with what it is told.
    message = None if ok else "535 5.7.8 wrong: " + (data.password.decode() if isinstance(data, LoginPassword) else "")
    return AuthResult(success=ok, handled=False, message=message)


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options["cert"], options["key"])
    login = dict(authenticator=authenticate, auth_required=True, auth_require_tls=options["tls"] == "starttls")
    if not options.get("login", True):
        login = dict(auth_exclude_mechanism=["LOGIN", "PLAIN"])
    encryption = dict(tls_context=context, require_starttls=True) if options["tls"] == "starttls" else {}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(Handler(), hostname="mail.example.com", loop=loop, **login, **encryption),
        "127.0.0.1",
        options.get("port", 0),
        ssl=context if options["tls"] == "tls" else None,
    )
    tell(event="port", port=server.sockets[0].getsockname()[1])
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())
