"""Opening a file of people as text.

Promises that an encoding is never guessed: it is the one that is told, or that of the byte order
mark; a wrong byte is told with its line. Refuses to open what could block, and to know the lines.
"""

import codecs
import io
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from bulkmail.campaign.sources.lines import Reading
from bulkmail.errors import CampaignError, MissingFileError, Problem

_BYTE_ORDER_MARKS = (  # the longer first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ESCAPES = frozenset({"utf-7", "unicode-escape", "raw-unicode-escape", "punycode", "idna"})
"""Codecs of Python that are no encodings of files, and may yield what is no character."""

_SAMPLE_BYTES = 65_536


@contextmanager
def opened(reading: Reading) -> Iterator[TextIO]:
    """The file as text. Raises MissingFileError, and CampaignError for the encoding."""
    file = reading.source.file
    try:
        mode = reading.path.stat().st_mode
        if not stat.S_ISREG(mode):
            what = "is a folder" if stat.S_ISDIR(mode) else "is not a file"
            raise MissingFileError([Problem(reading.place, f"{file} {what}")])
        with reading.path.open("rb") as binary:
            if binary.peek(4).startswith(b"PK\x03\x04"):
                raise reading.wrong(f"{file} is an Excel workbook; save it as CSV (UTF-8)")
            encoding = _encoding(reading, binary.peek(4))
            try:
                yield io.TextIOWrapper(binary, encoding, newline="")
            except UnicodeDecodeError:
                raise CampaignError([_encoding_problem(reading, encoding)]) from None
    except OSError as error:
        message = f"{file}: {error.strerror}"
        raise MissingFileError([Problem(reading.place, message)]) from None


def _encoding(reading: Reading, start: bytes) -> str:
    """Python's name for the encoding; a byte order mark knows it better than the campaign."""
    told = reading.source.encoding
    try:
        name = codecs.lookup(told).name
        io.TextIOWrapper(io.BytesIO(), name).read()  # refuses base64 and the like
    except (LookupError, ValueError):
        name = ""
    if not name or name in _ESCAPES:
        raise reading.wrong(f'unknown encoding "{told}"; usual ones are utf-8, cp949, latin-1')
    marked = next((codec for mark, codec in _BYTE_ORDER_MARKS if start.startswith(mark)), None)
    if marked is None and name in ("utf-16", "utf-32"):
        message = f"{reading.name} has no byte order mark; say `encoding: {name}-le` or {name}-be"
        raise reading.wrong(message)
    return marked or name


def _encoding_problem(reading: Reading, encoding: str) -> Problem:
    """Reads again to find the line. Only files that are wrong pay for this."""
    shown = encoding.removesuffix("-sig")
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    number = 1
    with reading.path.open("rb") as file:
        chunks = iter(lambda: file.readline(_SAMPLE_BYTES), b"")
        try:
            for text in codecs.iterdecode(chunks, encoding):
                number += newlines.decode(text).count("\n")
        except UnicodeDecodeError as error:
            data, start = error.object, error.start
            line = re.split(rb"\r\n|\r|\n", data[:start])
            sample = line[-1] + data[start:] + file.read(_SAMPLE_BYTES)
            message = f"byte {data[start]:#04x} is not {shown}; {_proposal(sample, encoding)}"
            place = f"{reading.name}:{number + len(line) - 1}"
            return Problem(place, f"{message} (it is named at {reading.place})")
    return Problem(reading.name, f"is not {shown}")  # somebody wrote to the file meanwhile


def _proposal(sample: bytes, encoding: str) -> str:
    """What to write instead."""
    if not encoding.startswith("utf-8") and _decodes(sample, "utf-8"):
        return "the file looks like UTF-8: leave `encoding` out"
    if encoding != "cp949" and _decodes(sample, "cp949"):
        return "a file saved by Korean Excel needs `encoding: cp949`"
    return "say which encoding it is; Western European Excel needs `encoding: cp1252`"


def _decodes(sample: bytes, encoding: str) -> bool:
    """Whether it makes sense that way; its end may be cut off."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError:
        return False
    return True
