"""Bytes into replies, however they are cut, and nothing but replies."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkmail.model import Reply
from bulkmail.smtp.reply import MAX_LINE_BYTES, MalformedReplyError, ReplyReader

STREAM = (
    b"250 2.1.0 ok\r\n"
    b"550-5.1.1 no such user\r\n550 5.1.1 look elsewhere\r\n"
    b"354\r\n"
    b"421 4.7.0 [TSS04] later\n"
)
REPLIES = [
    Reply(250, "2.1.0", "2.1.0 ok"),
    Reply(550, "5.1.1", "5.1.1 no such user look elsewhere"),
    Reply(354, "", ""),
    Reply(421, "4.7.0", "4.7.0 [TSS04] later"),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_replies_split_or_glued_in_any_way_are_the_same(cuts: list[int]) -> None:
    reader, replies = ReplyReader(), []
    edges = sorted({0, len(STREAM), *cuts})
    for start, end in itertools.pairwise(edges):
        replies += reader.receive(STREAM[start:end])
    assert replies == REPLIES


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\x00\x00\r\n",
        b"\r\n",
        b"99 ok\r\n",
        b"199 ok\r\n",
        b"600 ok\r\n",
        b"2500 ok\r\n",
        b"250ok\r\n",
        b"250-first\r\n251 second\r\n",
        b"250 " + b"x" * MAX_LINE_BYTES + b"\r\n",
        b"250 " + b"x" * (MAX_LINE_BYTES + 1),
        b"250-more\r\n" * 20_000,
    ],
)
def test_what_is_no_reply_is_refused(garbage: bytes) -> None:
    with pytest.raises(MalformedReplyError):
        list(ReplyReader().receive(garbage))


def test_text_is_safe_to_print() -> None:
    """A server cannot move the cursor of whoever reads the report."""
    [reply] = ReplyReader().receive(b"550 \x1b[2Jno\x07 \xff\r\n")
    assert reply.text == "[2Jno  \N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("text", [b"5.1.1", b"5.1.1 x", b"5.1.1\tx"])
def test_enhanced_code_is_found(text: bytes) -> None:
    [reply] = ReplyReader().receive(b"550 " + text + b"\r\n")
    assert reply.enhanced == "5.1.1"


@pytest.mark.parametrize("text", [b"", b"see 5.1.1", b"5.1", b"5.1.1.1 x", b"6.1.1 x"])
def test_other_numbers_are_no_enhanced_code(text: bytes) -> None:
    [reply] = ReplyReader().receive(b"550 " + text + b"\r\n")
    assert reply.enhanced == ""
