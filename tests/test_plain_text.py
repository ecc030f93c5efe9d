"""The text made from HTML: what a reader sees, and nothing that a reader does not see."""

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import escape

from bulkmail.compose.message import Composer, Design, Mailbox, Source
from bulkmail.compose.plain_text import plain_text
from bulkmail.compose.templates import RenderError, Templates
from bulkmail.model import Recipient

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("", ""),
        ("Dear Kim", "Dear Kim"),
        ("<p>One</p><p>Two<br>Three<br><br>Four</p>", "One\n\nTwo\nThree\n\nFour"),
        ("<p>a\n   b\t c</p>\n\n\n<p></p><p> </p>\n<p>d</p>", "a b c\n\nd"),
        ("<div>One</div><div>Two</div>", "One\nTwo"),
        ("<p>a <b>b</b> <i>c</i><em> d </em>e <code>f_g</code></p>", "a b c d e f_g"),
        # people's text
        ("<p>a*b_c [x](y) `z` # 1. &gt; ~~</p>", "a*b_c [x](y) `z` # 1. > ~~"),
        ("<p>&lt;b&gt; &amp;amp; 1 &lt; 2</p>", "<b> &amp; 1 < 2"),
        ("<p>* not a list</p><p>---</p><p>1) x</p>", "* not a list\n\n---\n\n1) x"),
        ("<p>می‌خواهم 👨‍👩‍👧 co­op</p>", "می‌خواهم 👨‍👩‍👧 co­op"),
        # headings
        ("<h1>Title</h1><p>x</p><h2>김연주</h2><h3>Third</h3>y", "Title\n=====\n\nx\n\n김연주\n------\n\nThird\n\ny"),
        ("<h1>One<br>two</h1><h2> </h2>", "One two\n======="),
        # links and images
        ('<a href="https://example.org/x?a=1&amp;b=2">Plan</a>.', "Plan (https://example.org/x?a=1&b=2)."),
        ('<a href="https://example.org/">https://example.org/</a>', "https://example.org/"),
        ('<a href="https://example.org/">example.org</a>', "https://example.org/"),
        ('see <a href="mailto:kim@example.org?subject=x">kim@example.org</a>', "see kim@example.org"),
        ('<a href="mailto:kim@example.org">Write</a> <a href="tel:+8210">Call</a>', "Write (kim@example.org) Call (+8210)"),
        ('<a href="#top">Top</a> <a>None</a> <a href="javascript:x()">Go</a>', "Top None Go"),
        ('a<a href="https://example.org/x"> b </a>c', "a b (https://example.org/x) c"),
        ('<a href="https://example.org/x"><img src="i.png" alt="Lion"></a>', "Lion (https://example.org/x)"),
        ('<a href="https://example.org/x"><img src="i.png"></a>', "https://example.org/x"),
        ('<a href="https://example.org/x"><table><tr><td>Sign</td></tr><tr><td>up</td></tr></table></a>', "Sign up (https://example.org/x)"),
        ('<p><img src="a.png" alt="A *lion*"><img src="b.png"></p>', "A *lion*"),
        # lists
        ("<ul><li>One</li><li>Two<ul><li>In<br>side</li></ul></li></ul>After", "- One\n- Two\n  - In\n    side\n\nAfter"),
        ("<ol start='9'><li>One</li><li>Two</li></ol>", "9. One\n10. Two"),
        ("<dl><dt>Day</dt><dd>Monday</dd></dl>", "Day\n  Monday"),
        ("<blockquote><p>a</p><p>b</p></blockquote>", "> a\n>\n> b"),
        ("<pre>a  b\n    c</pre>", "a  b\n    c"),
        ("a<hr>b", "a\n\n" + "-" * 40 + "\n\nb"),
        # tables
        ("<table><tr><th>Day</th><td>What</td></tr><tr><th>2</th><td>Study</td></tr></table>", "Day  What\n2  Study"),
        ("<table><tr><td>2</td><td>Study<br>online</td></tr><tr><td>4</td><td>End</td></tr></table>", "2  Study\n  online\n4  End"),
        ("<table><tr><td>a</td><td>&nbsp;</td><td></td><td>b</td></tr></table>", "a  b"),
        ("<table><tr><td><p>a</p><p>b</p></td><td><p>c</p><p>d</p></td></tr></table>", "a b\n\nc\n\nd"),
        ("<table><tr><td><p>A first paragraph of words</p><p>b</p></td><td>c</td></tr></table>", "A first paragraph of words\n\nb\n\nc"),
        ("<table><tr><td><table><tr><td><p>x</p><p>y</p></td></tr></table></td></tr></table>", "x\n\ny"),
        ("<table><tbody><tr><td>12<div>Sat</div></td><td><p>Tag</p><h2>Long</h2></td></tr></tbody></table>", "12 Sat\n\nTag\n\nLong\n----"),
        ("<table><tr><td>a | b</td></tr></table>", "a | b"),
        # what a reader does not see
        ("<head><title>T</title><style>p{}</style></head><body><script>x()</script>y</body>", "y"),
        ('<div style="color:red; DISPLAY : none">x</div><p hidden>x</p><i style="visibility:hidden">x</i>y', "y"),
        ('<div style="display:block">y</div>', "y"),
        ("<!-- x --><!--[if mso]><p>x</p><![endif]--><![if !mso]><p>y</p><![endif]>", "y"),
        ("<!doctype html>\n<html><body>y</body></html>", "y"),
        ("y&#847;&zwnj;&nbsp;&#847;&zwnj;&nbsp;&#847;&zwnj;&nbsp;<p>&zwnj;</p>&#8203;", "y"),
        ("10&nbsp;000 won", "10 000 won"),
        ("code:<br>&nbsp;&nbsp;&nbsp;&nbsp;<b>await</b> x", "code:\n    await x"),
        ("a\1b\0c\2d", "abcd"),
        ("<p>unclosed <b>tags", "unclosed tags"),
    ],
)  # fmt: skip
def test_html_becomes_what_its_reader_reads(html: str, text: str) -> None:
    assert plain_text(html) == text + "\n"


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Mn", "Z"]), min_size=1)


@settings(deadline=None)
@given(name=NAMES)
def test_any_name_comes_through(name: str) -> None:
    shown = escape(name)
    html = f"<table><tr><td><p>Dear <b>{shown}</b>,</p><p>{shown}</p></td></tr></table>"
    assert plain_text(html) in (f"Dear {name},\n\n{name}\n", f"Dear {name}, {name}\n")


@settings(deadline=None)
@given(html=st.text("<>/&;ab\n \0\1tdrpul=\"'!-[]") | st.lists(st.sampled_from(
    ["<p>", "</p>", "<td>", "</td>", "<tr>", "<table>", "</table>", "<br>", "a", " ", "\n", "<li>",
     "<ul>", "</ul>", "<h1>", "</h1>", "<pre>", "</pre>", "&nbsp;", "<div>", "</div>", "<a href=b:>"]
)).map("".join))  # fmt: skip
def test_any_html_becomes_a_tidy_text(html: str) -> None:
    text = plain_text(html)
    assert text.endswith("\n")
    assert "\n\n\n" not in text
    assert not any(line != line.rstrip() for line in text.split("\n"))
    assert not set("\0\1\2") & set(text)


def test_too_deep_html_is_an_error_in_words() -> None:
    with pytest.raises(ValueError, match="too deep"):
        plain_text("<div>" * 3000)
    assert plain_text("<div>" * 50 + "x") == "x\n"


def test_too_deep_html_of_a_message_tells_its_template() -> None:
    design = Design(
        campaign="july",
        author=Mailbox("", "news@example.org"),
        reply_to=None,
        return_path="news@example.org",
        subject=Source("July", "july.yaml:3"),
        html="letter.html",
        text=None,
        variables={},
    )

    def composer(source: str) -> Composer:
        return Composer(design, lambda name: (source, name), b"seed", lambda *_: pytest.fail())

    deep = "<div>" * 2000
    with pytest.raises(RenderError, match=r"^letter.html: .* too deep$"):
        composer(deep)
    with pytest.raises(RenderError, match=r"^letter.html: .* too deep$"):
        composer("{{ body|safe }}").compose(
            Recipient(1, "kim@example.com", {"body": deep}, "a.csv:2"), 0.0
        )


def test_the_newsletter_reads_well() -> None:
    """The example of the project, from its template and the first member's data."""
    with (ROOT / "campaigns/members.csv").open(encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    templates = Templates(lambda name: ((ROOT / "templates" / name).read_text("utf-8"), name))
    html = templates.render(
        templates.html("newsletter.html.j2"),
        {
            **row,
            "name": row["이름"],
            "email": row["이메일"],
            "campaign": "november",
            "issue": "2026년 11월호",
            "site": "https://likelion.example",
            "deadline": "12월 4일(금)",
            "dates": [
                {"day": "12월 2일(수)", "time": "19:30", "what": "스터디", "where": "온라인"},
                {"day": "12월 4일(금)", "time": "23:59", "what": "신청 마감", "where": "누리집"},
            ],
        },
    )
    text = plain_text(html)
    for part in (
        "멋쟁이사자처럼  2026년 11월호\n\n올겨울엔 같이 만들어요\n======================\n\n",
        "async def december(you):\n    await study(you)\n",
        f'\n\nasyncio.run(december("{row["이름"]}"))\n\n{row["이름"]}님, 안녕하세요.\n\n',
        "\n\n12월 2 수요일\n\n스터디\n\n비동기 파이썬, 기초부터 차근차근\n",
        "\n\n네 번의 계획 보기 (https://likelion.example/study?from=november)\n\n",
        "\n\n12월 한눈에\n\n12월 2일(수)  19:30  스터디\n  온라인\n12월 4일(금)  23:59  신청 마감\n  누리집\n\n",
        f"\n받는 주소: {row['이메일']}\n수신 거부: leave@likelion.example\n",
    ):
        assert part in text
    assert "미리 챙겨" not in text, "the preview line is hidden"
