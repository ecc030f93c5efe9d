"""Which addresses are sent to, in which form, and who is the same person."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bulkmail.address import address_check, address_key, domain_of, wire_address

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
    "kim@r3---sn.example",
    "kim@예시.example",
    "kim@예시.한국",
    unicodedata.normalize("NFD", "kim@예시.example"),
    "kim@Straße.example",
    "kim@ÉTÉ.example",
    "kim@مثال.example",
    "김@example.com",
    "김.민수+소식@예시.example",
    "ιωάννης@παράδειγμα.example",
    "สำราญ@example.com",
    "हिन्दी@example.com",
    "名前12@example.com",
    f"{'김' * 21}a@example.com",
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
    "kim@xn--예시.example",
    "kim@xn--.example",
    "kim@xn--a-.example",
    "kim@xn--ls8h.example",
    "kim@-예시.example",
    "kim@예시-.example",
    "kim@예_시.example",
    "kim@예시..example",
    "kim@예시",
    "kim@예시.example.",
    "\u0301kim@example.com",
    "김.\u0301@example.com",
    ".김@example.com",
    "김..수@example.com",
    unicodedata.normalize("NFD", "김@example.com"),
    f"{'김' * 22}@example.com",
    f"kim@{'예' * 60}.example",
    f"a@{'.'.join(['예시예시예시예시예시예시'] * 20)}.example",
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


ODD = [
    ("\u202ekim@example.com", "U+202E (RIGHT-TO-LEFT OVERRIDE)"),
    ("kim\u200f@example.com", "U+200F (RIGHT-TO-LEFT MARK)"),
    ("ki\u200bm@example.com", "U+200B (ZERO WIDTH SPACE)"),
    ("ki\u200dm@example.com", "U+200D (ZERO WIDTH JOINER)"),
    ("\ufeffkim@example.com", "U+FEFF (ZERO WIDTH NO-BREAK SPACE)"),
    ("ki\u00adm@example.com", "U+00AD (SOFT HYPHEN)"),
    ("kim\u00a0@example.com", "U+00A0 (NO-BREAK SPACE)"),
    ("kim\u3000@example.com", "U+3000 (IDEOGRAPHIC SPACE)"),
    ("kim\u0085@example.com", "U+0085 (unnamed)"),
    ("kim\u2028@example.com", "U+2028 (LINE SEPARATOR)"),
    ("kim\u3164@example.com", "U+3164 (HANGUL FILLER)"),
    ("kim\ufe0f@example.com", "U+FE0F (VARIATION SELECTOR-16)"),
    ("kim\ue000@example.com", "U+E000 (unnamed)"),
    ("kim\ud800@example.com", "U+D800 (unnamed)"),
    ("kim\U0001f600@example.com", "U+1F600 (GRINNING FACE)"),
    ("kim©@example.com", "U+00A9 (COPYRIGHT SIGN)"),
    ("kim\uff0elee@example.com", "U+FF0E (FULLWIDTH FULL STOP)"),
    ("\uff4bim@example.com", "U+FF4B (FULLWIDTH LATIN SMALL LETTER K)"),
    ("kim\uff20example\uff0ecom", "U+FF20 (FULLWIDTH COMMERCIAL AT)"),
    ("kim@example\uff0ecom", "U+FF0E (FULLWIDTH FULL STOP)"),
    ("kim@\uff45xample.com", "U+FF45 (FULLWIDTH LATIN SMALL LETTER E)"),
    ("kim@exam\u200bple.com", "U+200B (ZERO WIDTH SPACE)"),
    ("kim@exam\u00adple.com", "U+00AD (SOFT HYPHEN)"),
    ("kim@\u202eexample.com", "U+202E (RIGHT-TO-LEFT OVERRIDE)"),
    ("kim@예시\u3002한국", "U+3002"),
    ("kim@\u2615.example", "U+2615"),
    ("kim@한\u2024국.example", "U+2024"),
]


@pytest.mark.parametrize("pattern", ["standard", r"(?s).*"])
@pytest.mark.parametrize(("address", "named"), ODD)
def test_what_cannot_be_seen_or_typed_is_named_and_never_removed(
    pattern: str, address: str, named: str
) -> None:
    reason = address_check(pattern)(address)
    assert reason is not None and named in reason


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("kim@xn--.example", "IDNA"),
        ("kim@xn--ls8h.example", "U+1F4A9"),
        ("kim@예시-.example", "hyphen"),
        (unicodedata.normalize("NFD", "김@example.com"), "NFC"),
        ("\u0301kim@example.com", "combining mark"),
        (f"{'김' * 22}@example.com", "RFC 5321"),
    ],
)
def test_no_pattern_takes_what_has_no_form_in_smtp(address: str, named: str) -> None:
    reason = address_check(r"(?s).*")(address)
    assert reason is not None and named in reason


@pytest.mark.parametrize(
    "address", ["a b@c.d", "a@b\r\nRCPT TO:<x@y.example>", "<a@b.c>", "a,b@c.d", "김>@c.d"]
)
def test_no_pattern_lets_a_command_be_injected(address: str) -> None:
    """Whatever the user's regex allows, an address cannot break out of its SMTP command."""
    assert address_check(r"(?s).*")(address)


@pytest.mark.parametrize(
    ("pattern", "address", "good"),
    [
        (r"[^@]+@예시\.example", "kim@예시.example", True),
        (r"[^@]+@예시\.example", "kim@xn--vv4b11d.example", False),
        (r"[^@]+@xn--vv4b11d\.example", "kim@예시.example", False),
        ("classic", "kim@예시.example", False),
        ("classic", "김@example.com", False),
    ],
)
def test_other_patterns_are_matched_against_what_was_written(
    pattern: str, address: str, good: bool
) -> None:
    assert (address_check(pattern)(address) is None) is good


@pytest.mark.parametrize(
    ("address", "wire"),
    [
        ("Kim@Example.COM", "Kim@Example.COM"),
        ("Kim@예시.Example", "Kim@xn--vv4b11d.example"),
        ("kim@xn--vv4b11d.example", "kim@xn--vv4b11d.example"),
        ("kim@XN--VV4B11D.한국", "kim@xn--vv4b11d.xn--3e0b707e"),
        ("Ünal.김@예시.example", "Ünal.김@xn--vv4b11d.example"),
        ("김@Example.com", "김@example.com"),
        ("kim@straße.example", "kim@xn--strae-oqa.example"),
    ],
)
def test_only_the_domain_changes_its_form(address: str, wire: str) -> None:
    """A-labels once; names are never touched."""
    assert wire_address(address) == wire_address(wire) == wire
    assert domain_of(address) == wire.rpartition("@")[2].lower()


@pytest.mark.parametrize("address", ["kim@예시..☕", "kim@\u3002예", "김", "kim@xn--예"])
def test_an_address_without_wire_form_is_an_error(address: str) -> None:
    with pytest.raises(ValueError):
        wire_address(address)


@pytest.mark.parametrize(
    "same",
    [
        ["Haneul.Lee@Example.com", "haneul.lee@example.com"],
        ["kim@예시.example", "KIM@xn--vv4b11d.EXAMPLE", "kim@XN--VV4B11D.example"],
        ["É@예시.example", "é@예시.example", "e\u0301@xn--vv4b11d.example"],
        ["kim@ÉTÉ.example", "kim@été.example", "kim@e\u0301te\u0301.example"],
        ["ΣΟΦΟΣ@example.com", "σοφος@example.com", "σοφοσ@EXAMPLE.com"],
        ["Straße@example.com", "STRASSE@example.com"],
    ],
)
def test_the_same_person_has_the_same_key(same: list[str]) -> None:
    assert len(set(map(address_key, same))) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("kim@straße.example", "kim@strasse.example"),
        ("kim@example.com", "кim@example.com"),
        ("kim@\uff45xample.com", "kim@example.com"),
        ("kim@예시.example", "kim@예사.example"),
        ("kim@", "kim"),
    ],
)
def test_another_person_has_another_key(one: str, other: str) -> None:
    assert address_key(one) != address_key(other)


# -- for any text --------------------------------------------------------------------------------

ANY_TEXT = st.text(max_size=80) | st.text(st.characters(categories=["L", "M", "N", "C"]))
NAMES = st.text(
    st.sampled_from("aZ9.+-'\u00e9김ß한\u0301\u0345ıİΣ\u200d<@ ") | st.characters(), max_size=12
)
DOMAINS = st.lists(
    st.sampled_from(
        ["예시", "Example", "xn--vv4b11d", "xn--zz", "faß", "ÉTÉ", "e\u0301", "한국", "com", "a_b"]
    )
    | st.text(st.characters(), max_size=5),
    max_size=4,
).map(".".join)
ADDRESSES = st.builds("{}@{}".format, NAMES, DOMAINS) | ANY_TEXT
PATTERNS = st.sampled_from(["standard", "classic", r"(?s).*"])


@given(ADDRESSES, PATTERNS)
@example("", "standard")
@example("@", r"(?s).*")
def test_what_is_accepted_can_stand_in_a_command(address: str, pattern: str) -> None:
    """Any text is judged without an exception; what passes is one path of RFC 6531, once encoded."""
    if address_check(pattern)(address) is not None:
        return
    wire = wire_address(address)
    local_part, at, domain = wire.rpartition("@")
    assert local_part and at and domain.isascii()
    assert local_part == address.rpartition("@")[0]
    assert len(local_part.encode()) <= 64 and len(wire.encode()) <= 254
    assert not any(
        octet <= 32 or octet == 127 or octet in b'<>(),;:\\"[]' for octet in wire.encode()
    )
    assert "@" not in local_part
    assert not any(unicodedata.category(character)[0] in "CZ" for character in wire)


@given(ADDRESSES)
def test_the_wire_form_is_taken_once_and_is_the_same_person(address: str) -> None:
    try:
        wire = wire_address(address)
    except ValueError:
        assert address_check(r"(?s).*")(address) is not None
        return
    assert wire_address(wire) == wire
    assert address_key(wire) == address_key(address)


@given(ADDRESSES)
def test_the_key_is_a_key(address: str) -> None:
    """Any text has one, which is its own; composition and the case of ASCII do not change it."""
    key = address_key(address)
    assert address_key(key) == key
    assert address_key(unicodedata.normalize("NFD", address)) == key
    assert address_key(unicodedata.normalize("NFC", address)) == key
    swapped = "".join(c.swapcase() if c.isascii() else c for c in address)
    assert address_key(swapped) == key
