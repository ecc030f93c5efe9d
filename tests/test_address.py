"""Which addresses are sent to."""

import pytest

from bulkmail.address import address_check, address_key, domain_of

GOOD = [
    "kim@example.com",
    "kim.min-su+news@cs.hankuk.example",
    "a@b.example",
    "o'neill@example.org",
    "KIM@EXAMPLE.COM",
    "x@xn--3e0b707e.example",
    "x@example.xn--3e0b707e",
    "x@long-top.technology",
    "1@1.example",
    f"{'a' * 64}@example.com",
    f"a@{'b' * 63}.example",
    f"a@{'.'.join(['c' * 60] * 4)}.example",
]
BAD = [
    "",
    "kim",
    "@example.com",
    "kim@",
    "kim@example",
    "kim@@example.com",
    "kim@exa_mple.com",
    "kim@-example.com",
    "kim@example-.com",
    "kim@example..com",
    ".kim@example.com",
    "kim.@example.com",
    "ki..m@example.com",
    "kim@example.com.",
    "kim@example.c",
    "kim@example.123",
    "kim@example.com\n",
    "kim @example.com",
    "kim@exa mple.com",
    "kim@example.com\x00",
    "kim@example,com",
    "a@b.example,c@d.example",
    "a@b.example;c@d.example",
    "Kim <kim@example.com>",
    "<kim@example.com>",
    '"kim lee"@example.com',
    "kim(comment)@example.com",
    "kim@[127.0.0.1]",
    "김@example.com",
    "kim@예시.example",
    "\u202ekim@example.com",
    "ki\u200bm@example.com",
    f"{'a' * 65}@example.com",
    f"a@{'b' * 64}.example",
    f"a@{'.'.join(['c' * 62] * 4)}.example",
]


@pytest.mark.parametrize("address", GOOD)
def test_standard_lets_real_addresses_through(address: str) -> None:
    assert address_check("standard")(address) is None


@pytest.mark.parametrize("address", BAD)
def test_standard_refuses_and_says_why(address: str) -> None:
    assert address_check("standard")(address)


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("kim@example.com", True),
        ("kim_min-su+1@example.com", True),
        ("kim@example.info", False),
        ("kim@cs.example.com", False),
        ("kim@my-club.com", False),
        ("kim@example.com\n", False),
    ],
)
def test_classic_is_the_beginners_regex(address: str, good: bool) -> None:
    assert (address_check("classic")(address) is None) is good


def test_own_regex_is_matched_against_the_whole_address() -> None:
    check = address_check(r"[a-z]+@school\.example")
    assert check("kim@school.example") is None
    assert check("kim@school.example.com")
    assert check("xx kim@school.example")


@pytest.mark.parametrize(
    "address", ["a b@c.d", "a@b\r\nRCPT TO:<x@y.example>", "<a@b.c>", "a,b@c.d"]
)
def test_no_pattern_lets_a_command_be_injected(address: str) -> None:
    """Whatever the user's regex allows, an address cannot break out of its SMTP command."""
    assert address_check(r"(?s).*")(address)


def test_the_same_person_has_the_same_key() -> None:
    assert address_key("Haneul.Lee@Example.com") == address_key("haneul.lee@example.com")
    assert domain_of("kim@CS.Hankuk.Example") == "cs.hankuk.example"
