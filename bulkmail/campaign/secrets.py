"""Where a password comes from: `ask`, `env:NAME` or `file:PATH`. Never logged, never stored."""

import getpass
import os
import sys
from pathlib import Path

from bulkmail.campaign.files import read
from bulkmail.compose.message import FileFaultError
from bulkmail.errors import SecretError


def read_secret(reference: str, folder: Path, prompt: str) -> str:
    """What `reference` stands for; a path is relative to `folder`. Raises SecretError."""
    kind, _, name = reference.partition(":")
    if kind == "env":
        if not os.environ.get(name):
            raise SecretError(f"the environment variable {name} (smtp.password) is not set")
        return os.environ[name]
    if kind == "file":
        return _from_file(folder / name)
    if not sys.stdin.isatty():
        raise SecretError(
            "smtp.password is `ask`, but there is no terminal to ask at; use env:NAME or file:PATH"
        )
    try:
        return getpass.getpass(prompt)
    except EOFError:
        raise SecretError("no password was typed") from None


def _from_file(path: Path) -> str:
    try:
        secret = read(path).decode("utf-8").rstrip("\r\n")
    except (FileFaultError, UnicodeDecodeError) as error:
        raise SecretError(f"smtp.password: {error}") from None
    if not secret:
        raise SecretError(f"{path} (smtp.password) is empty")
    return secret
