"""Templates: bounded work, errors that say where and what next, and nothing reached from inside."""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkmail.compose.bounds import STEPS
from bulkmail.compose.names import TemplateNames, names
from bulkmail.compose.templates import Load, RenderError, Templates

PAYLOADS = Path(__file__).parent.parent.parent / "shared/material/templates-hostile/ssti.txt"
LONG = "makes a text of more than 2,000,000 characters"
ENDLESS = "the template goes on and on (more than 1,000,000 steps)"
ITEMS = "makes a list of more than 100,000 items"
DEEP = "templates, blocks or brackets are in one another without end, or too deep"
CALLS = "macros or loops call one another without end (50 deep)"
DIGITS = "makes a number of more than 18 digits"


def loader(sources: dict[str, str]) -> Load:
    return lambda name: (sources[name], f"templates/{name}") if name in sources else None


def render(source: str, *, html: bool = False, others: dict[str, str] | None = None,
           **context: object) -> str:  # fmt: skip
    templates = Templates(loader({"letter": source, **(others or {})}))
    return templates.render(templates.html("letter") if html else templates.text("letter"), context)


def failure(source: str, **options: object) -> RenderError:
    with pytest.raises(RenderError) as caught:
        render(source, **options)  # type: ignore[arg-type]
    return caught.value


COMPILED = ("{{ ((((", "{% if 1 %}{% if 1 %}", "{{ 99999")
"""What Python's own compiler refuses, which knows no line of the template."""


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("source", "what"),
    [
        # loops
        ("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", ENDLESS),
        ("{% for a in range(9999) %}{% for b in range(9999) if false %}{% endfor %}{% endfor %}", ENDLESS),
        ("{% for a in range(99999) %}{% for b in range(9) %}{{ loop.length }}{% endfor %}{% endfor %}", ENDLESS),
        ("{% for a in range(9999) %}{% set x = range(9999)|list %}{% endfor %}", ENDLESS),
        ("{% for a in range(9999) %}{% set x = range(9999)|map('string')|join %}{% endfor %}", ENDLESS),
        ("{% for a in range(9999) recursive %}{{ loop(range(9999)) if loop.depth < 3 }}{% endfor %}", ENDLESS),
        ("{% for a in range(99) recursive %}{{ loop(range(99999)) if loop.depth < 2 }}{% endfor %}", ENDLESS),
        ("{% set x %}{% for a in range(99999) %}" + "{{ a }}" * 500 + "{% endfor %}{% endset %}", ENDLESS),
        ("{% set x %}{% for a in range(99999) %}{% include 'many' %}{% endfor %}{% endset %}", ENDLESS),
        ("{% macro m() %}" + "x{{ '' }}" * 500 + "{% endmacro %}{% for a in range(99999) %}{% set x = m() %}{% endfor %}", ENDLESS),
        ("{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(40) }}", ENDLESS),
        ("{{ range(99999)|slice(999999999999)|list }}", ITEMS),
        ("{{ [1]|batch(999999999999, 0)|list }}", ITEMS),
        ("{{ range(999999) }}", "Range too big"),
        # texts
        ("{{ 'a' * 10**9 }}", LONG),
        ("{{ 10**9 * 'a' }}", LONG),
        ("{{ 'a' * 9999999 * 2 }}", LONG),
        ("{% for i in range(99999) %}" + "x" * 500 + "{% endfor %}", ENDLESS),
        ("{% set ns = namespace(t='x') %}{% for i in range(99) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}", LONG),
        ("{% set ns = namespace(t='x') %}{% for i in range(99) %}{% set ns.t = ns.t + ns.t %}{% endfor %}", LONG),
        ("{% set ns = namespace(t='x') %}{% for i in range(99) %}{% set ns.t %}{{ ns.t }}{{ ns.t }}{% endset %}{% endfor %}", LONG),
        ("{% macro m(n) %}{% if n %}{{ m(n - 1) }}{% endif %}" + "x" * 999 + "{% endmacro %}{% for i in range(9999) %}{{ m(9) }}{% endfor %}", ENDLESS),
        ("{{ 'a'|center(10**9) }}", LONG),
        ("{{ 'a'|center(width=10**9) }}", LONG),
        ("{{ ['a']|map('center', 10**9)|list }}", LONG),
        ("{{ 'a'.center(10**9) }}", LONG),
        ("{{ 'a'['ljust'](10**9) }}", LONG),
        ("{{ ('a'|attr('rjust'))(10**9) }}", LONG),
        ("{{ 'a'.zfill(10**9) }}", LONG),
        ("{{ '\t'.expandtabs(10**9) }}", LONG),
        ("{{ '\t'.expandtabs(tabsize=10**9) }}", LONG),
        ("{{ ('a' * 99999).replace('a', 'b' * 99999) }}", LONG),
        ("{{ 'a' * 99999|replace('', 'b' * 99999)|length }}{{ ('a' * 99999)|replace('a', 'b' * 99999) }}", LONG),
        ("{{ ('b' * 99999).join('a' * 9999) }}", LONG),
        ("{{ range(9999)|join('b' * 99999) }}", LONG),
        ("{{ '{:>999999999}'.format(1) }}", LONG),
        ("{{ '{:{w}}'.format(1, w=10**9) }}", LONG),
        ("{{ '{a:>999999999}'.format_map({'a': 1}) }}", LONG),
        ("{{ '{:.999999999f}'.format(1.5) }}", LONG),
        ("{{ ('{0}' * 99).format('x' * 999999) }}", LONG),
        ("{{ '%999999999s' % 1 }}", LONG),
        ("{{ '%.999999999d' % 1 }}", LONG),
        ("{{ '%*d' % (999999999, 1) }}", LONG),
        ("{{ '%999999999s'|format(1) }}", LONG),
        ("{{ '%(a)999999999s'|format(a=1) }}", LONG),
        ("{{ ('%(a)s' * 9999) % {'a': 'x' * 99999} }}", LONG),
        ("{{ 'a\nb'|indent(10**9) }}", LONG),
        ("{{ ('a\n' * 9999)|indent('b' * 99999) }}", LONG),
        ("{{ ('a ' * 99999)|wordwrap(1, wrapstring='b' * 99999) }}", LONG),
        ("{{ [[[[1] * 9999]]]|tojson(indent=99999) }}", LONG),
        ("{% set x = self.b() %}{% block b %}{% for i in range(99999) %}" + "x" * 500 + "{% endfor %}{% endblock %}", ENDLESS),
        # lists
        ("{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = ns.a + ns.a %}{% endfor %}", ITEMS),
        ("{{ [1] * 10**9 }}", ITEMS),
        ("{{ ('a' * 999999)|list }}", ITEMS),
        ("{{ ('a ' * 999999).split() }}", ITEMS),
        # the same long text again and again
        ("{% set t = '<' * 999999 %}{% for i in range(9999) %}{{ t }}{% endfor %}", ENDLESS),
        ("{% set t = '<' * 999999 %}{% set x %}{% for i in range(9999) %}{{ t }}{% endfor %}{% endset %}", ENDLESS),
        ("{% set t = '<' * 999999 %}{% for i in range(9999) %}{% include 'shows' %}{% endfor %}", ENDLESS),
        ("{% set t = '<' * 999999 %}{% macro m() %}{{ t }}{% endmacro %}{% for i in range(9999) %}{% set x = m() %}{% endfor %}", ENDLESS),
        ("{% set t = '<' * 999999 %}{% for i in range(9999) %}{% set x = t.upper() %}{% endfor %}", ENDLESS),
        ("{% set t = '<' * 999999 %}{% set x %}{{ t }}{{ t }}{{ t }}{% endset %}", LONG),
        ("{% set t = '<' * 999999 %}{{ [t, t, t]|join }}", LONG),
        ("{% set t = '<' * 999999 %}{{ ''.join([t, t, t]) }}", LONG),
        ("{% with n = 40 if n is undefined else n - 1 %}{% if n %}{% include 'letter' %}{% include 'letter' %}{% endif %}{% endwith %}", ENDLESS),
        # numbers
        ("{{ 2 ** 10**9 }}", DIGITS),
        ("{{ 9 ** 9 ** 9 ** 9 }}", DIGITS),
        ("{% set ns = namespace(n=9) %}{% for i in range(99) %}{% set ns.n = ns.n * ns.n %}{% endfor %}", DIGITS),
        ("{{ 5|round(-(10**9)) }}", DIGITS),
        ("{{ 1.5|round(10**9, 'floor') }}", DIGITS),
        ("{{ (5).to_bytes(10**9, 'big') }}", "unsafe"),
        ("{{ 'x'.translate({120: 'x' * 999999}) }}", "unsafe"),
        ("{{ ('f' * 999999)|int(base=16) }}", DIGITS),
        # one in another
        ("{% include 'letter' %}", DEEP),
        ("{% extends 'letter' %}", DEEP),
        ("{% import 'letter' as x %}", DEEP),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", CALLS),
        ("{% block b %}{{ self.b() }}{% endblock %}", CALLS),
        ("{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}", CALLS),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", DEEP),
        ("{% if 1 %}" * 200 + "{% endif %}" * 200, DEEP),
        ("{{ 9" + "9" * 5000 + " }}", "4300 digits"),
        # the same recipient must get the same bytes again
        ("{{ lipsum() }}", "lipsum makes another text each time"),
        ("{{ lipsum(n=100000) }}", "lipsum makes another text each time"),
        ("{{ [1, 2]|random }}", "random chooses anew each time"),
        ("{{ [[1, 2]]|map('random')|list }}", "random chooses anew each time"),
        ("{{ 'name'.upper }}", "'upper' is a function, not a text; to call it write (…) after it"),
        ("{{ ['name'.upper] }}", "is a function"),
        ("{{ {'a': 1}.items }}", "'items' is a function"),
        ("{{ range }}", "is a function"),
        ("{{ '%s' % range }}", "is a function"),
        ("{{ '{}'.format(range) }}", "is a function"),
    ],
)  # fmt: skip
def test_no_template_runs_or_allocates_without_end(source: str, what: str) -> None:
    error = failure(source, others={"many": "x{{ '' }}" * 500, "shows": "{{ t }}"})
    assert what in error.message
    assert re.fullmatch(r"templates/letter(:\d+)?|templates/many:1", error.place)
    if not source.startswith(COMPILED):
        assert ":" in error.place


@pytest.mark.parametrize("html", [False, True])
@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% for r in rows %}{{ r.n }}{% endfor %}", "".join(map(str, range(5000)))),
        ("{% for r in rows if r.n % 1000 == 0 %}{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}{% endfor %}", "1/5,2/5,3/5,4/5,5/5"),
        ("{% for a, (b, c) in [(1, (2, 3)), (4, (5, 6))] %}{{ a }}{{ b }}{{ c }}{% else %}none{% endfor %}", None),
        ("{% for a in [] %}x{% else %}none{% endfor %}", "none"),
        ("{% for a in [1] %}{{ a }}{% else %}none{% endfor %}", "1"),
        ("{% for a in [1, 2, 3] %}{{ loop.revindex }}{{ loop.first }}{{ loop.cycle('a', 'b') }}{{ loop.changed(a) }} {% endfor %}", "3TrueaTrue 2FalsebTrue 1FalseaTrue "),
        ("{% for a in [1, 2] %}{{ loop.nextitem if not loop.last }}{% endfor %}", "2"),
        ("{% for a in [{'n': 1, 'c': [{'n': 2, 'c': [{'n': 3, 'c': []}]}]}] recursive %}{{ a.n }}{{ loop.depth }}({{ loop(a.c) }}){% else %}.{% endfor %}", "11(22(33(.)))"),
        ("{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}{{ v }}{% endfor %}", "a1b2"),
        ("{% for k, v in {'a': 1}|items %}{{ k }}{{ v }}{% endfor %}{% for k in {'b': 1} %}{{ k }}{% endfor %}", "a1b"),
        ("{% for g in rows|groupby('k') %}{{ g.grouper }}{{ g.list|length }} {% endfor %}", "02500 12500 "),
        ("{{ rows|map(attribute='n')|sum }} {{ rows|selectattr('k')|list|length }} {{ rows|length }}", "12497500 2500 5000"),
        ("{{ {'day': 1, 'items': 2}.day }} {{ {'items': 2}['items'] }} {{ {'items': 2}.items()|list }} {{ {'a': 1}.b|default('-') }}", "1 2 [('items', 2)] -"),
        ("{{ [3, 1, 2]|sort|join(', ') }} {{ [1, 2, 1]|unique|list }} {{ [1, 2]|reverse|list }} {{ [1, 2]|first }}", "1, 2, 3 [1, 2] [2, 1] 1"),
        ("{% for row in [1, 2, 3]|batch(2, '-') %}{{ row|join }} {% endfor %}{{ [1, 2, 3]|slice(2)|list }}", "12 3- [[1, 2], [3]]"),
        ("{{ [1, 2]|join(d='-') }} {{ [{'a': 1}]|join('-', attribute='a') }} {{ 'aXb'|replace(old='X', new='', count=1) }} {{ 2.345|round(precision=1, method='floor') }}", "1-2 1 ab 2.3"),
        ("{{ 'a'|center(width=3) }}|{{ 'a\nb'|indent(width=1, first=true, blank=false) }}|{{ 'aa bb'|wordwrap(2, false, '/', false) }}|{{ 'aa bb'|wordwrap(width=2, break_long_words=true, wrapstring='/') }}|{{ [1]|batch(linecount=2, fill_with=0)|list }}|{{ {'a': 1}|tojson }}", None),
        ("{{ '-' * 40 }}{{ 3 * '=' }}", "-" * 40 + "==="),
        ("{{ '%-10s|%5.1f|%03d' % ('x', 2.25, 7) }}", "x         |  2.2|007"),
        ("{{ '%-10s'|format('x') }}|{{ '%(a)s'|format(a=1) }}|100 %", "x         |1|100 %"),
        ("{{ 'call 01012345678: %s' % 'x' }}", "call 01012345678: x"),
        ("{{ '{:,}'.format(1234567) }} {{ '{:>{w}}'.format(1, w=3) }} {{ '{a[b]}'.format_map({'a': {'b': 2}}) }}", "1,234,567   1 2"),
        ("{{ 'x'|center(5) }}|{{ 'x'.ljust(3) }}|{{ '7'.zfill(3) }}|{{ 'a\tb'.expandtabs(4) }}", "  x  |x  |007|a   b"),
        ("{{ 'aXb'|replace('X', '-') }}{{ 'aXb'.replace('X', '-', 1) }}{{ ', '.join(['a', 'b']) }}{{ 'a b'.split()[0] }}", "a-ba-ba, ba"),
        ("{{ 'a\nb'|indent(2) }}|{{ 'aa bb'|wordwrap(2) }}|{{ [1, {'a': 2}]|tojson(indent=1) }}", None),
        ("{{ 2 ** 10 }} {{ 7 // 2 }} {{ 7 % 4 }} {{ 1 / 4 }} {{ 0.1 + 0.2 }} {{ 3.14159|round(2) }} {{ '42'|int + 1 }} {{ -5|abs }}", "1024 3 3 0.25 0.30000000000000004 3.14 43 5"),
        ("{{ 1 < 2 < 3 }} {{ 'a' in 'abc' }} {{ 2 in [1, 2] }} {{ 3 not in [1] }} {{ 'b' in {'b': 1} }} {{ 3 in range(5) }}", "True True True True True True"),
        ("{{ 'abc'[1:] }} {{ [1, 2, 3][:2] }} {{ 'abc'[-1] }} {{ (1, 2)[0] }} {{ {'a': 1}['a'] }} {{ [1, 2] + [3] }} {{ [0] * 3 }}", "bc [1, 2] c 1 1 [1, 2, 3] [0, 0, 0]"),
        ("{% macro m(x, y='z') %}<{{ x }}{{ y }}{{ caller() if caller is defined }}>{% endmacro %}{{ m(1) }}{% call m(2, y=3) %}!{% endcall %}", "<1z><23!>"),
        ("{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{% set j = joiner('|') %}{{ j() }}1{{ j() }}2", "aba1|2"),
        ("{% set ns = namespace(n=0) %}{% for r in rows %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "5000"),
        ("{% block b %}1{% endblock %}{{ self.b() }}{% filter upper %}x{% endfilter %}{% set t | upper %}y{% endset %}{{ t }}", "11XY"),
        ("{% extends 'base' %}{% block b %}{{ super() }}2{% endblock %}", "[12]"),
        ("{% include 'part' %}{% include ['no', 'part'] %}{% include 'no' ignore missing %}{% import 'lib' as lib %}{{ lib.m(3) }}{% from 'lib' import m %}{{ m(4) }}", "pp(3)(4)"),
        ("{% autoescape true %}{{ 'a' ~ 1 }}{% endautoescape %}{% with a = 1 %}{{ a }}{% endwith %}{{ missing|default('d') }}{{ ''|default('e', true) }}", "a11de"),
        ("{{ none }} {{ true }} {{ 1.0 }} {{ [1, 'a', none] }} {{ {'a': 1} }} {{ x.upper() }} {{ x.title() if x is defined }}", None),
    ],
)  # fmt: skip
def test_ordinary_templates_work_as_jinja2_says(
    source: str, expected: str | None, html: bool
) -> None:
    """The near twins of the above, with an unbounded Jinja2 as second opinion."""
    from jinja2 import DictLoader, Environment

    others = {
        "base": "[{% block b %}1{% endblock %}]",
        "part": "p",
        "lib": "{% macro m(x) %}({{ x }}){% endmacro %}",
    }
    context = {"rows": [{"n": n, "k": n % 2} for n in range(5000)], "x": "<kim>"}
    plain = Environment(loader=DictLoader(others), autoescape=html)
    text = render(source, html=html, others=others, **context)
    assert text == plain.from_string(source).render(context)
    if expected is not None and not html:
        assert text == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ x ~ '<i>' }}", "&lt;b&gt;&lt;i&gt;"),
        ("{{ x|safe ~ '<i>' }}", "<b>&lt;i&gt;"),
        ("{{ '<p>'|safe ~ x ~ 1 }}", "<p>&lt;b&gt;1"),
        ("{{ '<p>{}'.format(x) }}", "&lt;p&gt;&lt;b&gt;"),
        ("{{ ('<p>{}'|safe).format(x) }}", "<p>&lt;b&gt;"),
        ("{{ ('<p>%s'|safe) % x }}", "<p>&lt;b&gt;"),
        ("{{ ('<p>'|safe) + x }}", "<p>&lt;b&gt;"),
        ("{{ ('<br>'|safe).join([x, x]) }}", "&lt;b&gt;<br>&lt;b&gt;"),
        ("{{ [x, '<br>'|safe]|join }}", "&lt;b&gt;<br>"),
        ("{{ x|center(5) }}{{ x|replace('b', '<') }}", " &lt;b&gt; &lt;&lt;&gt;"),
        ("{% set y %}<p>{{ x }}{% endset %}{{ y }}", "<p>&lt;b&gt;"),
        ("{% macro m(a) %}<p>{{ a }}{% endmacro %}{{ m(x) }}", "<p>&lt;b&gt;"),
        ('<a title="{{ x }}">', '<a title="&lt;b&gt;">'),
    ],
)  # fmt: skip
def test_counting_keeps_the_escaping_of_html(source: str, expected: str) -> None:
    assert render(source, html=True, x="<b>") == expected


def test_the_count_is_the_same_each_time() -> None:
    """What a check allows, a sending run allows: to the step, and after other renderings."""
    templates = Templates(loader({"a": "{% for i in range(n) %}{% for j in range(1000) %}{% endfor %}{% endfor %}"}))  # fmt: skip
    template = templates.text("a")

    def passes(n: int) -> bool:
        try:
            templates.render(template, {"n": n})
        except RenderError:
            return False
        return True

    passing, failing = 1, STEPS // 1000
    while failing - passing > 1:
        middle = (passing + failing) // 2
        passing, failing = (middle, failing) if passes(middle) else (passing, middle)
    assert [passes(n) for n in (passing, failing, passing, failing)] == [True, False] * 2


def test_a_bound_is_told_with_the_innermost_line() -> None:
    error = failure(
        "{% from 'lib' import m %}\n{{ m() }}",
        others={"lib": "{% macro m() %}\n\n{{ '-' * 99999999 }}{% endmacro %}"},
    )
    assert str(error) == f"templates/lib:3: {LONG}"
    error = failure(
        "\n{% for a in range(9999) %}\n{% for b in range(99) %}x\n{% endfor %}{% endfor %}"
    )
    assert error.place == "templates/letter:3"
    whole = "{% set t = '-' * 999999 %}{{ t }}{{ t }}{{ t }}"
    assert str(failure(whole)) == f"templates/letter: {LONG}"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ nmae }}", "'nmae' is undefined; did you mean 'name'?"),
        ("{{ nmae.upper() }}", "'nmae' is undefined; did you mean 'name'?"),
        ("{{ 'x' ~ nmae }}", "'nmae' is undefined; did you mean 'name'?"),
        ("{{ zzz }}", "'zzz' is undefined; there is name, row"),
        ("{{ row['Frist Name'] }}", "'Frist Name' is undefined; did you mean 'First Name'?"),
        ("{{ row.nmae }}", "'nmae' is undefined; did you mean 'name'?"),
        ("{{ name|uper }}", "No filter named 'uper'; did you mean 'upper'?"),
        ("{{ name|uper if name }}", "No filter named 'uper' found; did you mean 'upper'?"),
        ("{{ [name]|map('uper')|join }}", "No filter named 'uper'; did you mean 'upper'?"),
        ("{{ name is strng }}", "No test named 'strng'; did you mean 'string'?"),
        ("{% include 'letr' %}", "no template 'letr'"),
        ("{% extends 'zzz' %}", "no template 'zzz'"),
        ("{% import 'zzz' as z %}", "no template 'zzz'"),
        ("{% include '/etc/passwd' %}", "no template '/etc/passwd'"),
        ("{% include '../x.yaml' %}", "no template '../x.yaml'"),
        ("{% include ['a', 'b'] %}", "none of the templates given were found: a, b"),
        ("{% if %}", "Expected an expression, got 'end of statement block'"),
        ("{{ name.upper._meter }}", "access to attribute '_meter' of '_Metered' object is unsafe."),
        (
            "{{ range._function }}",
            "access to attribute '_function' of '_Metered' object is unsafe.",
        ),
        ("{{ name.__class__ }}", "access to attribute '__class__' of 'str' object is unsafe."),
    ],
)
def test_an_error_says_where_and_what_was_meant(source: str, message: str) -> None:
    context = {"name": "Kim", "row": {"First Name": "Kim", "name": "Kim"}}
    assert str(failure("\n" + source, **context)) == f"templates/letter:2: {message}"


@pytest.mark.parametrize(
    ("context", "what"),
    [
        ({"name": "a\ud800b"}, "half of a character (U+D800) cannot be written in UTF-8"),
        ({"name": "\udcff"}, "half of a character (U+DCFF) cannot be written in UTF-8"),
        ({"name": "a\0b"}, "a NUL character cannot be sent"),
        ({"name": "김\0b"}, "a NUL character cannot be sent"),
    ],
)
@pytest.mark.parametrize("source", ["Dear {{ name }}", "Dear {{ name|e }}"])
def test_what_no_mail_can_carry_is_an_error(
    source: str, context: dict[str, str], what: str
) -> None:
    error = failure(source, **context)
    assert what in error.message
    assert "near 'Dear" in error.message
    assert str(error).isascii()
    assert "half of a character" in failure("{{ x|urlencode }}", x="\ud800").message


def test_what_mail_can_carry_is_none() -> None:
    assert render("{{ name }}", name="김연주 😀 \x01") == "김연주 😀 \x01"


def payloads() -> list[str]:
    return PAYLOADS.read_text("utf-8").splitlines() if PAYLOADS.exists() else []


@pytest.mark.skipif(not PAYLOADS.exists(), reason="the collection of payloads is not beside us")
def test_payloads_in_the_data_are_text() -> None:
    from markupsafe import escape

    for payload in payloads():
        assert render("{{ name }}", name=payload) == payload
        assert render("{{ name }}", html=True, name=payload) == str(escape(payload))


@pytest.mark.skipif(not PAYLOADS.exists(), reason="the collection of payloads is not beside us")
def test_payloads_as_templates_reach_nothing() -> None:
    """Each is an error or harmless text: no class, no file, no command."""
    for payload in payloads():
        for html in (False, True):
            try:
                text = render(payload, html=html, name="Kim")
            except RenderError as error:
                text = error.message
            for leak in ("<class", "&lt;class", "__globals__ ", "root:x:0", "uid=", "object at 0x"):
                assert leak not in text, payload


@pytest.mark.parametrize(
    "source",
    [
        "{% set _ = dates.append('x') %}",
        "{% set _ = dates.pop() %}",
        "{% set _ = dates[1].append('x') %}",
        "{% set _ = dates[0].update(a=1) %}",
        "{% set _ = dates[0].setdefault('b', 1) %}",
        "{% set _ = dates[0]|attr('clear')() %}",
        "{% set _ = dict.update(dates[0], a=1) %}",
        "{% set _ = dict['update'](dates[0], a=1) %}",
        "{% set _ = (dict|attr('update'))(dates[0], a=1) %}",
        "{% set _ = (dates|first).clear() %}",
        "{% set _ = [dates]|map(attribute='clear')|list|first() %}",
        "{{ dates|indent }}",
        "{{ dates|indent(first=true) }}",
        "{% do dates.append('x') %}",
        "{% set dates.x = 1 %}",
        "{% set _ = row.update(name='Eve') %}",
        "{{ dates + ['x'] }}{{ dates * 2 }}{{ dates|reverse|list }}{{ dates|batch(9, 'x')|list }}",
        "{{ [['x']]|sum(start=dates) }}",
        "{% set dates = ['x'] %}{% set name = 'Eve' %}{{ name }}",
        "{% set ns = namespace(dates=dates) %}{% set ns.dates = ns.dates + ['x'] %}",
        "{% set ns = namespace(row) %}{% set ns.name = 'Eve' %}",
        "{% from 'lib' import count %}{{ count() }}",
        "{% import 'lib' as lib %}{{ lib.count() }}{{ lib.c.next() }}",
        "{% include 'lib' without context %}",
    ],
)
def test_one_recipient_cannot_change_the_next(source: str) -> None:
    """A second recipient's letter is what it is without the first, whatever the first one does."""
    lib = (
        "{% set ns = namespace(n=0) %}{% set c = cycler('a', 'b') %}"
        "{% macro count() %}{% set ns.n = ns.n + 1 %}{{ ns.n }}{% endmacro %}"
    )
    letter = "{% import 'lib' as lib %}{{ lib.count() }}{{ lib.c.next() }} {{ dates }} {{ name }}"
    dates = [{"day": 1}, ["nested"]]
    row = {"name": "Kim"}
    templates = Templates(loader({"lib": lib, "letter": letter, "first": source}))
    second = templates.text("letter")
    expected = "1a [{'day': 1}, ['nested']] Kim"
    context = {"dates": dates, "row": row, "name": "Kim"}
    for _ in range(2):
        with suppress(RenderError):
            templates.render(templates.text("first"), context)
        assert templates.render(second, context) == expected


@settings(deadline=None, max_examples=300)
@given(source=st.text("{}%#'()[]|~*+-.: \nabin19"), html=st.booleans())
def test_any_source_is_a_text_or_a_render_error(source: str, html: bool) -> None:
    try:
        assert isinstance(render(source, html=html, a="x", n=[1]), str)
    except RenderError as error:
        assert error.place.startswith("templates/letter")


@pytest.mark.parametrize(
    ("source", "used", "shown"),
    [
        ("{{ name }}", "name", "name"),
        ("{{ name|upper|trim }}", "name", "name"),
        ("{{ name.upper() }} {{ name[0] }} {{ name[:1] }}", "name", "name"),
        ('<a href="/?m={{ name|urlencode }}">', "name", "name"),
        ("{{ 'Dear ' ~ name }}", "name", "name"),
        ("{{ 'Dear ' + name }} {{ '%s' % plan }}", "name plan", "name plan"),
        ("{{ '%s %s'|format(name, plan) }}", "name plan", "name plan"),
        ("{{ '{} {x}'.format(name, x=plan) }}", "name plan", "name plan"),
        ("{{ [name, plan]|join(', ') }}", "name plan", "name plan"),
        ("{{ row['First Name'] }} {{ row.plan }}", "row First*Name plan", "First*Name plan"),
        ("{{ row[name] }}", "row name", "row"),
        ("{% if name %}{{ name }}{% endif %}", "name", ""),
        ("{% if not name %}you{% elif plan %}x{% else %}{{ name }}{{ email }}{% endif %}", "name plan email", "email"),
        ("{% if row['First Name'] %}{{ row['First Name'] }}{% endif %}", "row First*Name", ""),
        ("{% if plan == 'pro' %}{{ name }}{% endif %}", "name plan", "name"),
        ("{% if name %}x{% endif %}{{ name }}", "name", "name"),
        ("{{ name if name else 'you' }}", "name", ""),
        ("{{ 'Dear ' ~ name if plan else 'you' }}", "name plan", "name"),
        ("{{ name or 'you' }} {{ plan and 'plan ' ~ plan }}", "name plan", ""),
        ("{{ nick or name }}", "nick name", "name"),
        ("{{ name|default('you', true) }} {{ plan|d('x', boolean=true) }}", "name plan", ""),
        ("{{ name|default('you') }} {{ plan|default(email, true) }}", "name plan email", "name email"),
        ("{{ plan == 'pro' }} {{ name is defined }} {{ not email }}", "plan name email", ""),
        ("{% set greeting = 'Dear ' ~ name %}{{ greeting }}", "name", "name"),
        ("{% set greeting = 'Dear ' ~ name %}{% if greeting %}x{% endif %}", "name", ""),
        ("{% set a = name %}{% set b = a %}{{ b }}", "name", "name"),
        ("{% set t %}Dear {{ name }}{% endset %}", "name", "name"),
        ("{% with n = name %}{{ n }}{% endwith %}", "name", "name"),
        ("{% for d in dates %}{{ d.day }}{{ name }}{% endfor %}", "dates name", "name"),
        ("{% for name in dates %}{{ name }}{% endfor %}", "dates", ""),
        ("{% macro m(x) %}{{ x }}{% endmacro %}{{ m(name) }}", "name", "name"),
        ("{% macro m() %}{{ name }}{% endmacro %}{% call m() %}{{ plan }}{% endcall %}", "name plan", "name plan"),
        ("{% filter upper %}{{ name }}{% endfilter %}{% block b %}{{ plan }}{% endblock %}", "name plan", "name plan"),
        ("{% include 'part' %}{% include 'zzz' ignore missing %}", "city", "city"),
        ("{% extends 'base' %}{% block b %}{{ name }}{% endblock %}", "name plan city", "name plan city"),
        ("{% from 'part' import x %}{% include ['zzz', 'part'] %}", "city", "city"),
        ("{{ name", "", ""),
        ("{{ name|nofilter }}", "", ""),
        ("{{ name }}{{ " + "(" * 3000 + ")" * 3000 + " }}{{ 9" + "9" * 5000 + " }}", "", ""),
        ("{# {{ name }} #}{% raw %}{{ name }}{% endraw %}", "", ""),
        ("{{ range(3) }}{{ lipsum() }}", "", ""),
    ],
)  # fmt: skip
def test_names_are_found_and_where_emptiness_shows(source: str, used: str, shown: str) -> None:
    others = {
        "part": "{{ city }}",
        "base": "{{ plan }}{% include 'part' %}{% include 'base' %}{% block b %}{% endblock %}",
    }

    def sets(text: str) -> frozenset[str]:
        return frozenset(word.replace("*", " ") for word in text.split())

    expected = TemplateNames(sets(used), sets(shown))
    assert names(loader({"letter": source, **others}), ["letter"], []) == expected
    assert names(loader(others), [], [source]).shown >= expected.shown - {"city", "plan"}


def test_names_of_several_sources_add_up() -> None:
    load = loader({"a": "{{ x }}", "b": "{% if y %}{{ y }}{% endif %}"})
    assert names(load, ["a", "b", "zzz"], ["{{ z }}", "{{"]) == TemplateNames(
        frozenset("xyz"), frozenset("xz")
    )


def test_missing_templates_name_themselves() -> None:
    get: Callable[[str], object] = Templates(loader({})).text
    with pytest.raises(RenderError, match=r"^zzz: no such template: zzz$"):
        get("zzz")


# -- what a message is made of ---------------------------------------------------------------------

BASE = "<html>{% block letter %}{% endblock %}{% block foot %}{% endblock %}</html>"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("shown", ["{{ b }}", "{{ b|join }}", "{{ b|tojson }}", "{{ b|length }}"])
def test_a_list_of_long_lists_is_refused(shown: str) -> None:
    error = failure("{% set a = [1] * 100000 %}{% set b = [a] * 100000 %}" + shown)
    assert error.message == ENDLESS
    render("{% set a = [1] * 100 %}{% set b = [a] * 100 %}" + shown)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("more", ["[x, x]", "x, x", "{'a': x, 'b': x}", "dict(a=x, b=x)", "[x] * 2", "[x] + [x]", "[row, x, x]"])  # fmt: skip
@pytest.mark.parametrize("shown", ["", "{{ x }}", "{{ x == y }}", "{{ x|tojson }}", "{{ x in y }}"])
def test_a_list_that_is_put_into_itself_again_and_again_is_refused(more: str, shown: str) -> None:
    """Where it holds too much in all, whatever is done with it; a few times is a list like others."""
    row = {"name": "Kim"}
    source = "{% set y = [1] %}{% set x = [1] %}" + f"{{% set x = {more} %}}" * 60 + shown
    assert failure(source, row=row).message == LONG
    few = "{% set y = [1] %}{% set x = [1] %}" + f"{{% set x = {more} %}}" * 6 + shown
    assert len(render(few, row=row)) < 9999


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("{% set t = 'x' * 99999 %}{% set b = [t] * 9999 %}{{ b }}", LONG),
        ("{% set b = [row] * 99999 %}{{ b }}", LONG),
        ("{% set b = [row] * 999 %}{{ b|length }}", "999"),
        ("{% set ns = namespace(a=[]) %}{% for i in range(900) %}{% set ns.a = ns.a + [row] %}{% endfor %}{{ ns.a|length }}", "900"),
        ("{% for a, (b, c) in [(1, (2, 3))] %}{% set x, y = c, b %}{{ x }}{{ y }}{{ (a, b)[0] }}{% endfor %}", "321"),
        ("{{ {'a': 1, 'b': [2]} }}{{ dict(a=1) }}{{ ('a',) }}{{ 1 in [1] and 1 is in [1] }}", "{'a': 1, 'b': [2]}{'a': 1}('a',)True"),
    ],
)  # fmt: skip
def test_a_list_is_measured_with_all_that_it_holds(source: str, told: str) -> None:
    """Each time that it holds it; what is measured already costs nothing again."""
    row = {"name": "Kim", "words": "x" * 900}
    if told is LONG:
        assert failure(source, row=row).message == LONG
    else:
        assert render(source, row=row) == told


CHOICE = "{% if 1 %}{% extends 'base' %}{% else %}{% extends 'nested' %}{% endif %}"


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("{% extends 'base' %}{% block lettr %}Hi{% endblock %}", "base has no block 'lettr'; did you mean 'letter'?"),
        ("{% extends 'base' %}{% block letter %}{% block mine %}Hi{% endblock %}{% endblock %}", None),
        ("{% extends 'middle' %}{% block foot %}Hi{% endblock %}", None),
        ("{% extends 'middle' %}{% block food %}Hi{% endblock %}", "middle has no block 'food'"),
        ("{% block alone %}Hi{% endblock %}", None),
        ("{% extends 'bare' %}{% block letter %}Hi{% endblock %}", "bare has no block 'letter'"),
        ("{% extends 'base' %}{% if 1 %}{% block lettr %}Hi{% endblock %}{% endif %}", "base has no block 'lettr'"),
        ("{% extends 'holds' %}{% block part %}Hi{% endblock %}", "holds has no block 'part'"),
        ("{% if 0 %}{% extends 'bare' %}{% else %}{% extends 'base' %}{% endif %}{% block letter %}Hi{% endblock %}", None),
        ("{% if 0 %}{% extends 'base' %}{% endif %}{% block mine %}Hi{% endblock %}", None),
        (CHOICE + "{% block letter %}Hi{% endblock %}{% block body %}Hi{% endblock %}", None),
        (CHOICE + "{% block letter %}Hi{% endblock %}{% block lettr %}Yo{% endblock %}", "base and nested have no block 'lettr'; did you mean 'letter'?"),
        (CHOICE + "{% block letter %}Hi{% endblock %}{% if 1 %}{% block lettr %}Yo{% endblock %}{% endif %}", "have no block 'lettr'"),
        ("{% if 1 %}{% extends 'base' %}{% elif 1 %}{% extends 'nested' %}{% endif %}{% block letter %}Hi{% endblock %}{% block lettr %}Yo{% endblock %}", None),
        ("{% if 1 %}{% extends 'base' %}{% block lettr %}Yo{% endblock %}{% endif %}", "base has no block 'lettr'"),
        ("{% extends 'chooses' %}{% block letter %}Hi{% endblock %}{% block body %}Hi{% endblock %}", None),
        ("{% extends 'chooses' %}{% block lettr %}Hi{% endblock %}", "chooses has no block 'lettr'"),
        ("{% extends 'may' %}{% block alone %}Hi{% endblock %}{% block letter %}Hi{% endblock %}", None),
        ("{% extends 'may' %}{% block lettr %}Hi{% endblock %}", "may has no block 'lettr'"),
        ("{% if 1 %}{% extends 'base' %}{% else %}{% extends 'nowhere' %}{% endif %}{% block letter %}Hi{% endblock %}{% block mine %}Yo{% endblock %}", None),
        ("{% extends 'base' %}{% block letter %}{{ self.mine() }}{% endblock %}{% block mine %}Hi{% endblock %}", None),
        ("{% extends 'base' %}{% block letter %}{{ self['mine']() }}{% endblock %}{% block mine %}Hi{% endblock %}", None),
        ("{% extends 'base' %}{% block letter %}{{ self['mine']() }}{% endblock %}{% block mine %}{% endblock %}{% block yours %}Hi{% endblock %}", "base has no block 'yours'"),
        ("{% extends 'base' %}{% block letter %}{% set x = 'mine' %}{{ self[x]() }}{% endblock %}{% block mine %}Hi{% endblock %}", None),
        ("{% extends 'nested' %}{% block when %}Hi{% endblock %}", None),
        ("{% extends 'replaces' %}{% block when %}Hi{% endblock %}", "the block 'when' would not be shown"),
        ("{% extends 'adds' %}{% block when %}Hi{% endblock %}", None),
        ("{% extends 'repeats' %}{% block when %}Hi{% endblock %}", None),
        ("{% extends 'nested' %}{% block body %}{{ super() }}{% endblock %}{% block when %}Hi{% endblock %}", None),
        ("{% extends 'nested' %}{% block body %}x{% endblock %}{% block when %}Hi{% endblock %}", "the block 'when' would not"),
    ],
)  # fmt: skip
def test_a_block_that_no_parent_has_is_not_left_out_in_silence(
    source: str, what: str | None
) -> None:
    """Jinja2 drops it: a letter would go out without its words."""
    others = {
        "base": BASE,
        "bare": "<html></html>",
        "part": "{% block part %}{% endblock %}",
        "holds": "{% include 'part' %}{% block foot %}{% endblock %}",
        "middle": "{% extends 'base' %}{% block letter %}Yo{% endblock %}",
        "nested": "{% block body %}old {% block when %}{% endblock %}{% endblock %}",
        "replaces": "{% extends 'nested' %}{% block body %}new{% endblock %}",
        "adds": "{% extends 'nested' %}{% block body %}{{ super() }}new{% endblock %}",
        "repeats": "{% extends 'nested' %}{% block body %}{{ self.when() }}{% endblock %}",
        "chooses": CHOICE,
        "may": "{% if 1 %}{% extends 'base' %}{% endif %}{% block alone %}{% endblock %}",
    }
    if what is None:
        assert "Hi" in render(source, others=others)
    else:
        error = failure(source, others=others)
        assert error.place == "templates/letter:1" and what in error.message


PARENT = "{% extends 'base' %}"
BLOCK = "{% block letter %}Hi{% endblock %}"


@pytest.mark.parametrize(
    ("source", "place", "what"),
    [
        (PARENT + "\n{% block letter %}Hi{% endblock %}\n\n Regards,\nKim", 4, "'Regards,' stands in no block"),
        (PARENT + "\n{% if 1 %}\nHi{% endif %}", 3, "'Hi' stands"),
        (PARENT + "{% for x in [1] %}{% with y = 1 %}{% filter upper %}Hi{% endfilter %}{% endwith %}{% endfor %}", 1, "'Hi' stands"),
        (PARENT + "\n{{ name }}", 2, "{{ … }} stands"),
        (PARENT + "\n<!-- foot\n -->\n<p>Hi<!-- x --></p>\n", 4, "'<p>Hi<!-- x --></p>' stands"),
        (PARENT + "Dear reader, " * 9, 1, "'Dear reader, Dear reader, Dear reader, D' stands"),
        ("{% import 'lib' as lib %}" + PARENT + "Hi", 1, "'Hi' stands in no block"),
        (PARENT + "{% for x in [1] %}{{ x }}{% endfor %}", 1, "{{ … }} stands"),
        ("{% if 1 %}{% extends 'base' %}{% elif 1 %}{% extends 'base' %}{% else %}{% if 1 %}{% extends 'base' %}{% else %}{% extends 'base' %}{% endif %}{% endif %}\nHi", 2, "'Hi' stands"),
        ("{% if 1 %}{% extends 'base' %}Hi{% endif %}", 1, "'Hi' stands"),
        # near twins
        (PARENT + "\n\n{# Hi #}<!-- Hi\n -->{% block letter %}Hi{% endblock %}\n", None, ""),
        (PARENT + "{% block letter %}Hi{% endblock %}<!-- end\n -->\n", None, ""),
        (PARENT + "{% set x = 'Hi' %}{% set y %}Hi{% endset %}{% block letter %}Hi{% endblock %}", None, ""),
        (PARENT + "{% macro m() %}Hi{% endmacro %}{% block letter %}{{ m() }}{% endblock %}", None, ""),
        (PARENT + "{% import 'lib' as lib %}{% block letter %}{{ lib.m() }}{% endblock %}", None, ""),
        (PARENT + "{% if 1 %}{% set x = 1 %}{% endif %}{% block letter %}{% if 1 %}Hi{% endif %}{% endblock %}", None, ""),
        ("{% if 0 %}{% extends 'base' %}{% endif %}Hi", None, ""),
        ("{% if 0 %}{% extends 'base' %}{% elif 0 %}{% extends 'base' %}{% endif %}Hi", None, ""),
        ("{% if 0 %}{% extends 'base' %}{% else %}Hi{% endif %}Hi", None, ""),
        ("Hi" + PARENT, None, ""),
    ],
)  # fmt: skip
def test_text_in_no_block_is_not_left_out_in_silence(
    source: str, place: int | None, what: str
) -> None:
    """Jinja2 shows of a template that extends another its blocks alone."""
    others = {"base": BASE, "lib": "{% macro m() %}Hi{% endmacro %}"}
    if place is None:
        assert "Hi" in render(source, others=others, name="Kim")
    else:
        error = failure(source, others=others, name="Kim")
        assert error.place == f"templates/letter:{place}" and what in error.message
        assert error.message.endswith("base would leave it out; move it into one")


ABOVE = "stands in no block, and would be printed above everything; move it into one"


@pytest.mark.parametrize(
    ("source", "place", "what"),
    [
        ("\n{% include 'part' %}", 2, "{% include %} " + ABOVE),
        ("{% if 1 %}\n{% include 'part' %}{% endif %}", 2, "{% include %} " + ABOVE),
        ("{% for x in [1] %}{% include 'part' %}{% endfor %}", 1, "{% include %} " + ABOVE),
        ("{% filter upper %}{% include 'part' %}{% endfilter %}", 1, "{% include %} " + ABOVE),
        ("{% import 'lib' as lib %}\n{% call lib.m() %}x{% endcall %}", 2, "{% call %} " + ABOVE),
        ("\n{% filter default('x', true) %}{% endfilter %}", 2, "{% filter %} " + ABOVE),
        ("{% with x = 1 %}\n" + BLOCK + "{% endwith %}", 2, "the block 'letter' stands in {% with %}, and would be printed above everything, too; move {% with %} into the block"),
        ("{% for x in [1] %}{% if 1 %}" + BLOCK + "{% endif %}{% endfor %}", 1, "stands in {% for %}"),
        ("{% filter upper %}" + BLOCK + "{% endfilter %}", 1, "stands in {% filter %}"),
        ("{% autoescape true %}" + BLOCK + "{% endautoescape %}", 1, "stands in {% autoescape %}"),
        # near twins
        ("{% if 1 %}" + BLOCK + "{% endif %}", None, ""),
        (BLOCK + "{% set x %}{% include 'part' %}{% endset %}", None, ""),
        (BLOCK + "{% macro m() %}{% include 'part' %}{% endmacro %}", None, ""),
        ("{% block letter %}{% include 'part' %}{% filter upper %}x{% endfilter %}{% with x = 1 %}{% block b %}Hi{% endblock %}{% endwith %}{% endblock %}", None, ""),
        ("{% import 'lib' as lib %}" + BLOCK + "{% set x %}{% call lib.m() %}x{% endcall %}{% endset %}", None, ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "parent", [PARENT, f"{{% if 1 %}}{PARENT}{{% else %}}{PARENT}{{% endif %}}"]
)
def test_nothing_is_printed_above_the_layout(
    parent: str, source: str, place: int | None, what: str
) -> None:
    """Jinja2 prints, where a template extends another, what stands in no block but is no text."""
    others = {"base": BASE, "part": "Part", "lib": "{% macro m() %}{{ caller() }}{% endmacro %}"}
    if place is None:
        told = render(parent + source, others=others)
        assert told.startswith("<html>") and told.count("Hi") == 1
    else:
        error = failure(parent + source, others=others)
        assert error.place == f"templates/letter:{place}" and what in error.message


def test_what_may_not_extend_anything_may_print_as_it_likes() -> None:
    source = "{% if 0 %}{% extends 'base' %}{% endif %}{% include 'part' %}"
    source += "{% with x = 1 %}{% block b %}Hi{% endblock %}{% endwith %}"
    assert render(source, others={"base": BASE, "part": "Part"}) == "PartHi"


@pytest.mark.timeout(20)
def test_a_template_that_extends_others_in_very_many_ways_is_compiled() -> None:
    """Nobody could look at all of them."""
    others = {"l40": BASE, "r40": BASE}
    for n in range(40):
        left, right = (f"{{% extends '{side}{n + 1}' %}}" for side in "lr")
        source = f"{{% if 1 %}}{left}{{% else %}}{right}{{% endif %}}"
        others |= {f"l{n}": source, f"r{n}": source}
    source = "{% extends 'l0' %}{% block letter %}Hi{% endblock %}{% block mine %}{% endblock %}"
    assert "Hi" in render(source, others=others)


def test_who_used_a_name_that_is_not_there_is_told_which_are() -> None:
    message = failure("{{ book }}", name="Kim", email="kim@example.com").message
    assert message == "'book' is undefined; there is email, name"


@pytest.mark.parametrize("way", ["{% extends 'middle' %}", "{% include 'middle' %}"])
def test_a_misspelt_block_is_noticed_in_what_a_template_is_made_of(way: str) -> None:
    middle = "{% extends 'base' %}{% block lettr %}Hi{% endblock %}"
    error = failure(way, others={"base": BASE, "middle": middle})
    assert error.place == "templates/middle:1" and "base has no block 'lettr'" in error.message


@pytest.mark.parametrize("tag", ["include", "extends", "import"])
def test_what_a_message_is_made_of_is_known_before(tag: str) -> None:
    """A name that data decides would be in no digest, and read for the first time while sending."""
    more = " as x" if tag == "import" else ""
    error = failure(f"\n{{% {tag} 'part-' ~ id{more} %}}", others={"part-1": "One"}, id="1")
    assert error.place == "templates/letter:2"
    assert "the name of a template is written out" in error.message
    render(f"{{% {tag} 'part-1'{more} %}}", others={"part-1": "One"}, id="1")


def test_a_choice_among_templates_is_written_out() -> None:
    source = "{% if id == '1' %}{% include 'a' %}{% else %}{% include ['x', 'b'] %}{% endif %}"
    assert render(source, others={"a": "A", "b": "B"}, id="2") == "B"
