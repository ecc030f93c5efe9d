"""`bulkmail preview`: what its page shows, to whom, and that mail can do nothing there."""

import asyncio
import http.client
import json
import re
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from playwright.async_api import Page, async_playwright

from bulkmail.preview.framed import framed
from bulkmail.preview.opened import File, opened

from .conftest import Project

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (apt: chromium)")
PNG = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000001000000010806000000")


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        assert self.status == 200, self.status
        return json.loads(self.body)


@dataclass
class Preview:
    """A running `bulkmail preview`, at `address`."""

    process: asyncio.subprocess.Process
    address: str

    async def get(self, path: str = "", *, method: str = "GET", **headers: str) -> Answer:
        """What is answered for `path` below the token; one that begins with / is the whole."""
        return await asyncio.to_thread(self._get, path, method, headers)

    def _get(self, path: str, method: str, headers: dict[str, str]) -> Answer:
        url = urlsplit(self.address)
        assert url.hostname and url.port
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=20)
        connection.request(method, path if path[:1] == "/" else url.path + path, headers=headers)
        response = connection.getresponse()
        told = {name.lower(): value for name, value in response.getheaders()}
        answer = Answer(response.status, told, response.read())
        connection.close()
        return answer

    async def json(self, path: str) -> Any:
        return (await self.get(path)).json()

    async def states(self) -> AsyncIterator[dict[str, Any]]:
        """What the server pushes, from now on."""
        url = urlsplit(self.address)
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(f"GET {url.path}events HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode())
        try:
            while line := await asyncio.wait_for(reader.readline(), 20):
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
        finally:
            writer.close()
            await writer.wait_closed()

    async def until(self, when: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first state, from now on, of which `when` is true."""
        async with aclosing(self.states()) as states:
            async for state in states:
                if when(state):
                    return state
        raise AssertionError("the server went away")

    async def stop(self) -> None:
        """By Ctrl-C, which is a clean end."""
        if self.process.returncode is not None:
            return
        self.process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(self.process.communicate(), 20)
        assert self.process.returncode == 0, err
        assert b"Traceback" not in err, err


Start = Callable[..., Awaitable[Preview]]


@pytest.fixture
async def preview(project: Project) -> AsyncIterator[Start]:
    running = []

    async def start(file: str = "letter.yaml", *arguments: str) -> Preview:
        process = await project.start("preview", file, "--no-open", *arguments)
        assert process.stdout is not None
        address = (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()
        running.append(Preview(process, address))
        assert address, await process.communicate()
        return running[-1]

    yield start
    for each in running:
        await each.stop()


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=20_000
        )
        page = await browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="null")
        page.set_default_timeout(10_000)
        yield page
        await browser.close()


def letter(project: Project, html: str, *, more: str = "") -> None:
    """A campaign whose HTML is `html`."""
    project.campaign(more=more)
    text = (project.folder / "letter.yaml").read_text("utf-8")
    project.write("letter.yaml", text.replace("text: letter.txt", "html: letter.html"))
    project.write("letter.html", html)


# -- who may ask, and what ---------------------------------------------------------------------


async def test_only_who_knows_the_address_is_answered(project: Project, preview: Start) -> None:
    project.campaign()
    shown = await preview()
    port = urlsplit(shown.address).port
    assert shown.address.startswith(f"http://127.0.0.1:{port}/")
    assert len(urlsplit(shown.address).path) > 20
    assert (await shown.get()).status == 200
    for path in ("/", "/people", "/preview.js", "/favicon.ico", "/x" + "y" * 21 + "/", "//"):
        assert (await shown.get(path)).status == 404
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", "127.0.0.1:1", ""):
        assert (await shown.get(Host=host)).status == 403
    assert (await shown.get(Host=f"localhost:{port}")).status == 200
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
        assert (await shown.get("people", method=method)).status == 405
    assert (await shown.get(method="HEAD")).status == 200


async def test_what_is_not_there(project: Project, preview: Start) -> None:
    project.campaign()
    shown = await preview()
    assert (await shown.get("people/1")).status == 200
    for path in (
        *("people/0", "people/2", "people/x", "people/-1", "people/9" + "9" * 30),
        *("people?after=x", "mail/2/html", "mail/1/html", "mail/1/attachments/0"),
        *("../preview.js", "%2e%2e/"),
    ):
        assert (await shown.get(path)).status == 404, path


async def test_every_answer_is_bound_by_its_headers(project: Project, preview: Start) -> None:
    (project.folder / "a.png").write_bytes(PNG)
    letter(project, '<p>Hi {{ name }} <img src="cid:a" alt="">', more="images: {a: a.png}\n"
           "attachments: [{file: a.png, name: '그림 \"1\".html'}]")  # fmt: skip
    shown = await preview()
    assert (await shown.json("people/1"))["mail"]["html"]
    pages = [await shown.get(path) for path in ("", "preview.js", "people/1", "mail/1/source")]
    for answer in (*pages, await shown.get("/"), await shown.get("mail/1/html")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
    for answer in pages:
        policy = answer.headers["content-security-policy"].split("; ")
        assert {"default-src 'none'", "frame-ancestors 'none'", "form-action 'none'"} < {*policy}
        assert {"base-uri 'none'", "script-src 'self'", "frame-src 'self'"} < {*policy}

    html = await shown.get("mail/1/html")
    policy = html.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "img-src data:", "form-action 'none'", "sandbox"} < {*policy}
    assert b'src="data:image/png;base64,' in html.body
    html = await shown.get("mail/1/html?images=remote")
    assert "img-src data: https: http:" in html.headers["content-security-policy"]
    assert "; sandbox" in html.headers["content-security-policy"]

    saved = await shown.get("mail/1/attachments/0")
    assert saved.body == PNG
    assert saved.headers["content-type"] == "application/octet-stream"
    assert saved.headers["content-disposition"] == (
        "attachment; filename=\" _1_.html\"; filename*=UTF-8''" + quote('그림 "1".html')
    )
    assert "attachment" in pages[3].headers["content-disposition"]


# -- what it shows -------------------------------------------------------------------------------


async def test_a_message_is_shown_whole(project: Project, preview: Start) -> None:
    project.people("kim@gamil.com,김연주")
    project.campaign(more="attachments: [letter.txt]")
    before = sorted(project.folder.rglob("*"))
    shown = await preview()
    person = await shown.json("people/1")
    assert person["fields"] == [["email", "kim@gamil.com"], ["name", "김연주"]]
    assert person["source"] == "people.csv:2"
    mail = person["mail"]
    assert mail["from"] == {"name": "News", "address": "news@example.org"}
    assert mail["to"] == "김연주 <kim@gamil.com>"
    assert mail["subject"] == "For 김연주"
    assert mail["text"] == "Dear 김연주,\n\nthis is for kim@gamil.com.\n"
    assert mail["preheader"] == "Dear 김연주, this is for kim@gamil.com."
    assert ["Subject", "For 김연주"] in mail["headers"]
    size = len((project.folder / "letter.txt").read_bytes())
    assert mail["attachments"] == [{"name": "letter.txt", "type": "text/plain", "size": size}]
    assert [(f["rule"], f["place"]) for f in mail["findings"]] == [("address-typo", "address")]
    source = (await shown.get("mail/1/source")).body
    assert b"\r\nSubject: =?utf-8?" in source and len(source) == mail["size"]
    await shown.stop()
    assert sorted(project.folder.rglob("*")) == before, "something was written"


async def test_links_and_the_preheader_are_read_as_inboxes_do(
    project: Project, preview: Start
) -> None:
    letter(project, "<head><title>no</title><style>no{}</style></head><body>"
           "<div style='display:none'>The short of it." + "&#847;&zwnj;&nbsp;" * 20 + "</div>"
           "<p>Long <a href='https://example.org/?a=1&amp;b=2'>the <b>page</b></a>"
           "<a href='javascript:alert(1)'><img src=x alt=pic></a>")  # fmt: skip
    shown = await preview()
    mail = (await shown.json("people/1"))["mail"]
    assert mail["preheader"] == "The short of it."
    assert mail["links"] == [
        {"text": "the page", "url": "https://example.org/?a=1&b=2"},
        {"text": "pic", "url": "javascript:alert(1)"},
    ]


async def test_who_is_left_out_is_found_with_the_reason(project: Project, preview: Start) -> None:
    project.people("kim@example.com,Kim", "lee,Lee", "KIM@example.com,Again", "cho@example.com,Cho")
    project.write("never.csv", "email\ncho@example.com\n")
    project.campaign(more="exclude: [never.csv]")
    shown = await preview()
    state = await shown.until(lambda state: not state["reading"])
    assert (state["read"], state["left_out"]) == (4, 3)
    page = await shown.json("people?show=left_out")
    assert [(p["name"], p["left_out"]) for p in page["people"]] == [
        ("Lee", "invalid"), ("Again", "duplicate"), ("Cho", "excluded"),
    ]  # fmt: skip
    assert [p["reason"] for p in page["people"]] == [
        "is not of the form name@domain", "the same person stands above", "stands in never.csv:2",
    ]  # fmt: skip
    person = await shown.json("people/4")
    assert person["mail"] is None and person["reason"] == "stands in never.csv:2"
    assert (await shown.get("mail/4/source")).status == 404


async def test_a_search_looks_into_every_column(project: Project, preview: Start) -> None:
    project.write("people.csv", 'email,name,note\na@example.com,김,"50% ""off"""\nb@example.com,이,x_y\n')  # fmt: skip
    project.campaign()
    shown = await preview()
    found = {}
    for text in ("김", "B@EXAMPLE", "50%", '"off"', "x_y", "xay", "note", "%", "example"):
        page = await shown.json(f"people?q={quote(text)}")
        assert page["at_end"]
        found[text] = [person["number"] for person in page["people"]]
    assert found == {
        "김": [1], "B@EXAMPLE": [2], "50%": [1], '"off"': [1], "x_y": [2], "xay": [], "note": [],
        "%": [1], "example": [1, 2],
    }  # fmt: skip


async def test_pages_and_searches_are_answered_while_the_list_is_read(
    project: Project, preview: Start
) -> None:
    addresses = project.many(300_000)
    project.campaign()
    shown = await preview()
    state = await shown.until(bool)
    page = await shown.json("people?limit=3")
    found = await shown.json("people?q=person7%40")
    mail = (await shown.json("people/1"))["mail"]
    later = await shown.until(bool)
    assert state["reading"] and later["reading"], "it was read before it was looked at"
    assert state["read"] < later["read"] < len(addresses)
    assert [person["address"] for person in page["people"]] == addresses[:3]
    assert [person["address"] for person in found["people"]] == ["person7@example.com"]
    assert mail["subject"] == "For Person 0"


# -- following the files -------------------------------------------------------------------------


async def test_changes_are_seen_and_mistakes_shown_with_their_lines(
    project: Project, preview: Start
) -> None:
    project.people("kim@example.com,Kim", "lee@example.com,Lee")
    project.campaign()
    shown = await preview()
    states = shown.states()
    first = await anext(states)
    assert not first["problems"]

    async def edited(name: str, text: str) -> dict[str, Any]:
        before = (await shown.json("people/1")) and state["edition"]
        project.write(name, text)
        async for told in states:
            if told["edition"] != before and not told["reading"]:
                return told
        raise AssertionError("the server went away")

    state = first
    state = await edited("letter.txt", "New for {{ name }}\n")
    assert (await shown.json("people/2"))["mail"]["text"] == "New for Lee\n"
    assert state["people"] == first["people"], "the list was read again for nothing"

    state = await edited("letter.txt", "One\n\nNew for {{ nmae }}\nlast\n")
    problem = (await shown.json("people/2"))["problem"]
    assert problem["place"] == "letter.txt:3"
    assert problem["message"] == "'nmae' is undefined; did you mean 'name'?"
    assert [line["text"] for line in problem["lines"]] == ["One", "", "New for {{ nmae }}", "last"]
    assert [line["number"] for line in problem["lines"] if line["here"]] == [3]

    state = await edited("letter.txt", "{% if %}\n")
    [problem] = state["problems"]
    assert problem["place"] == "letter.txt:1" and problem["lines"][0]["text"] == "{% if %}"
    person = await shown.json("people/2")
    assert person["mail"] is None and person["fields"] == [
        ["email", "lee@example.com"],
        ["name", "Lee"],
    ]

    campaign = (project.folder / "letter.yaml").read_text("utf-8")
    state = await edited("letter.yaml", campaign.replace("subject:", "subjct:"))
    assert ["subject" in problem["message"] for problem in state["problems"]] == [True, True]
    [line] = [line for line in state["problems"][1]["lines"] if line["here"]]
    assert line["text"].startswith("subjct:")

    project.write("letter.txt", "Again for {{ name }}\n")
    state = await edited("letter.yaml", campaign)
    while state["problems"]:
        state = await anext(states)
    assert (await shown.json("people/2"))["mail"]["text"] == "Again for Lee\n"

    state = await edited("people.csv", "email,name\nnew@example.com,New\nlee@example.com,Lee\n")
    assert state["people"] != first["people"]
    assert (await shown.json("find?address=lee@example.com&number=2"))["number"] == 2
    assert (await shown.json("find?address=new@example.com&number=7"))["number"] == 1
    assert (await shown.json("find?address=kim@example.com&number=1"))["number"] is None
    await states.aclose()


async def test_a_list_that_holds_nobody(project: Project, preview: Start) -> None:
    project.people()
    project.campaign()
    shown = await preview()
    state = await shown.until(lambda state: not state["reading"])
    assert state["remarks"] == ["people.csv: holds nobody"]
    assert await shown.json("people") == {"people": [], "next": 0, "at_end": True}


async def test_a_list_that_breaks_off_shows_who_was_read(project: Project, preview: Start) -> None:
    addresses = project.many(20_000)
    with (project.folder / "people.csv").open("ab") as file:
        file.write(b"b@example.com,\xb9\n")
    project.campaign()
    shown = await preview()
    state = await shown.until(lambda state: bool(state["problems"]))
    assert state["problems"][0]["place"] == "people.csv:20002"
    page = await shown.json("people?limit=2")
    assert [person["address"] for person in page["people"]] == addresses[:2]


# -- the command ---------------------------------------------------------------------------------


async def test_without_the_extra_it_says_what_to_install(project: Project, tmp_path: Path) -> None:
    project.campaign()
    project.write("without/starlette.py", "raise ModuleNotFoundError('no', name='starlette')\n")
    project.environment["PYTHONPATH"] = str(project.folder / "without")
    result = await project.bulkmail("preview", "letter.yaml", "--no-open")
    assert result.status == 78
    assert result.err == "the page needs its extra: pip install 'bulkmail[preview]'\n"


async def test_a_file_that_is_not_there(project: Project) -> None:
    result = await project.bulkmail("preview", "nowhere.yaml", "--no-open")
    assert (result.status, result.err) == (66, "nowhere.yaml: No such file or directory\n")


async def test_a_port_that_is_taken(project: Project, preview: Start) -> None:
    project.campaign()
    port = urlsplit((await preview()).address).port
    result = await project.bulkmail("preview", "letter.yaml", "--no-open", "--port", str(port))
    assert (result.status, result.out) == (69, "")
    assert f"127.0.0.1:{port}" in result.err and "--port" in result.err


async def test_the_sandbox_shows_what_it_received(project: Project, preview: Start) -> None:
    project.people("kim@example.com,Kim", "lee@example.com,Lee")
    project.campaign()
    result = await project.bulkmail("preview", "letter.yaml", "--sandbox")
    assert result.status == 66 and "bulkmail run letter.yaml --sandbox" in result.err
    assert (await project.bulkmail("run", "letter.yaml", "--sandbox", "--yes")).status == 0
    shown = await preview("letter.yaml", "--sandbox")
    people = (await shown.json("people"))["people"]
    assert sorted(p["address"] for p in people) == ["kim@example.com", "lee@example.com"]
    [number] = [p["number"] for p in people if p["address"] == "lee@example.com"]
    mail = (await shown.json(f"people/{number}"))["mail"]
    assert mail["subject"] == "For Lee" and "this is for lee@" in mail["text"]
    assert ["Return-Path", "<news@example.org>"] in mail["headers"]
    assert [p["number"] for p in (await shown.json("people?q=LEE"))["people"]] == [number]
    assert (
        await project.bulkmail("test", "letter.yaml", "--to", "me@example.org", "--sandbox")
    ).status == 0
    await shown.until(lambda state: state["read"] == 3)
    assert (await shown.json("people/3"))["address"] == "me@example.org"


# -- one file --------------------------------------------------------------------------------------


async def test_out_writes_one_file_that_stands_for_itself(project: Project) -> None:
    long = "wordy " * 200
    project.people("a@example.com,Ann", "b@example.com,Bob", f"c@example.com,{long}", "d@example.com,",
                   "e@example.com,Eve", "nobody,X")  # fmt: skip
    letter(
        project,
        "<p>Hi <b>{{ name }}</b><script>x</script><img src='https://example.org/p.png' alt=''>",
    )
    before = {path.name for path in project.folder.iterdir()}
    result = await project.bulkmail("preview", "letter.yaml", "--out", "look.html")
    assert (result.status, result.out) == (0, "written: look.html\n"), result.err
    page = (project.folder / "look.html").read_text("utf-8")
    assert {path.name for path in project.folder.iterdir()} == before | {"look.html"}
    assert page.count('<iframe sandbox=""') == 4
    for who in ("For Ann", "For Eve", "wordy wordy", "with an empty cell", "5, and 1 left out"):
        assert who in page
    assert "For Bob" not in page
    assert "Hi &lt;b&gt;Ann" in page and "<script" not in page
    assert page.count("Content-Security-Policy") == 5
    checked = await project.bulkmail("check", "letter.yaml")
    [approved] = re.findall(r"--approved (\S+)\n", checked.out)
    assert f"<code>bulkmail run letter.yaml --approved {approved}</code>" in page
    assert "name is empty for 1 recipient: people.csv:5" in page
    outside = page.replace("srcdoc", "")
    assert not any(f'{name}="http' in outside for name in ("src", "href", "url("))


async def test_out_of_a_campaign_that_is_wrong(project: Project) -> None:
    project.campaign()
    project.write("letter.txt", "{{ nmae }}\n")
    result = await project.bulkmail("preview", "letter.yaml", "--out", "look.html")
    assert result.status == 65 and "letter.txt:1: 'nmae' is undefined" in result.err
    assert not (project.folder / "look.html").exists()


def test_a_message_that_is_no_proper_one() -> None:
    """The sandbox takes anybody's: it is shown as well as it can be."""
    raw = (
        b"Subject: =?nonsense?B?////?=\r\nFrom: \xff <a@b\r\nX: a\r\n b\x01\r\n"
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n"
        b"Content-Type: text/html; charset=none-such\r\n\r\n<p>\xea\xb9\x80</p>\xff\r\n--x\r\n"
        b'Content-Disposition: attachment; filename="../../etc/passwd"\r\n\r\nroot\r\n'
    )
    mail = opened(raw)
    assert mail.html is not None and mail.html.startswith("<p>김</p>\ufffd")
    assert mail.header("x") == "a b\ufffd"
    assert mail.header("subject").startswith("=?nonsense")
    assert [(file.name, file.content.strip()) for file in mail.attachments] == [("passwd", b"root")]
    assert opened(b"").letter.size == 0
    assert opened(b"\xff\x00" * 99).text is not None


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<p>x", "{}<p>x"),
        (" <!-- a --><!DOCTYPE html><p>x", " <!-- a --><!DOCTYPE html>{}<p>x"),
        ("<LINK\nrel=preconnect href=//x><linked>", "{}<meta\nrel=preconnect href=//x><linked>"),
        ("<iframe/src=//x></iframe><iframes>", "{}<x-iframe/src=//x></iframe><iframes>"),
        ("<frameset><frame src=//x>", "{}<frameset><x-frame src=//x>"),
        ("<a href='a>b'target=_self>target=_self", "{}<a href='a>b'data-target=_self>target=_self"),
        ('<img src="cid:a@b">cid:c@b', '{}<img src="data:image/png;base64,aQ==">cid:c@b'),
    ],
)
def test_what_is_changed_in_html(html: str, expected: str) -> None:
    images = {"a@b": File("a.png", "image/png", b"i")}
    assert framed(html, images) == expected.format('<base target="_blank">')


# -- in a browser --------------------------------------------------------------------------------


@needs_chromium
async def test_stepping_searching_and_views(project: Project, preview: Start, page: Page) -> None:
    project.many(120)
    letter(project, "<h1>Hello {{ name }}</h1>")
    await page.goto((await preview()).address)
    subject, rows = page.locator("#subject"), page.locator("#list button")
    await page.get_by_text("For Person 0", exact=True).first.wait_for()
    await page.locator("#range", has_text="1–50 of 120").wait_for()
    assert await rows.count() == 50

    await page.keyboard.press("ArrowDown")
    await page.locator("#subject", has_text="For Person 1").wait_for()
    await page.get_by_role("button", name="Next recipient").click()
    await page.locator("#subject", has_text="For Person 2").wait_for()
    assert (
        await page.locator("#list [aria-current=true]").inner_text()
        == "Person 2\n3\nperson2@example.com"
    )
    await page.keyboard.press("ArrowLeft")
    await page.locator("#subject", has_text="For Person 1").wait_for()
    await page.get_by_label("Go to recipient number").fill("51")
    await page.keyboard.press("Enter")
    await page.locator("#subject", has_text="For Person 50").wait_for()
    await page.locator("#range", has_text="51–100 of 120").wait_for()

    await page.locator("#next").focus()
    await page.keyboard.press("/")
    await page.keyboard.type("son11")
    await page.locator("#range", has_text="1–11 found").wait_for()
    assert await rows.count() == 11
    await page.keyboard.press("Enter")
    await page.locator("#subject", has_text="For Person 11").wait_for()
    await page.keyboard.press("ArrowDown")
    await page.locator("#subject", has_text="For Person 110").wait_for()

    frame = page.frame_locator("#device iframe").last
    await frame.get_by_role("heading", name="Hello Person 110").wait_for()
    await page.get_by_role("button", name="Phone").click()
    box = await page.locator("#device iframe").bounding_box()
    assert box is not None and box["width"] == 375
    dark = "matchMedia('(prefers-color-scheme: dark)').matches"
    assert not await page.frames[-1].evaluate(dark)
    await page.get_by_role("button", name="Dark").click()
    assert await page.frames[-1].evaluate(dark)

    await page.get_by_role("tab", name="Message").focus()
    await page.keyboard.press("ArrowRight")
    assert await page.get_by_role("tab", name="Text").get_attribute("aria-selected") == "true"
    assert "Hello Person 110" in await page.locator("#text").inner_text()
    await page.get_by_role("tab", name="Source").click()
    await page.locator("#source", has_text="Subject: For Person 110").wait_for()
    assert await subject.inner_text() == "For Person 110"


@needs_chromium
async def test_the_page_follows_the_template(project: Project, preview: Start, page: Page) -> None:
    project.many(5)
    letter(project, "<h1>Old {{ name }}</h1>")
    await page.goto((await preview()).address + "#4")
    frame = page.frame_locator("#device iframe").last
    await frame.get_by_role("heading", name="Old Person 3").wait_for()
    project.write("letter.html", "<h1>New {{ name }}</h1>")
    await frame.get_by_role("heading", name="New Person 3").wait_for()
    project.write("letter.html", "<p>\n<h1>{{ nmae }}</h1>")
    await page.get_by_text("'nmae' is undefined; did you mean 'name'?").wait_for()
    assert await page.locator(".code .here").inner_text() == "2\n<h1>{{ nmae }}</h1>"
    assert "person3@example.com" in await page.locator("#data").inner_text()
    project.write("letter.html", "<h1>Mended {{ name }}</h1>")
    await frame.get_by_role("heading", name="Mended Person 3").wait_for()
    assert await page.locator("#problems").is_hidden()
    # The person stands elsewhere in the list now.
    project.people("z@example.com,Zoe", "person3@example.com,Moved")
    await frame.get_by_role("heading", name="Mended Moved").wait_for()
    assert await page.locator("#number").input_value() == "2"


@needs_chromium
async def test_a_list_that_was_emptied_shows_nobodys_message(
    project: Project, preview: Start, page: Page
) -> None:
    project.many(2)
    letter(project, "<h1>{{ name }}</h1>")
    await page.goto((await preview()).address + "#2")
    frame = page.frame_locator("#device iframe").last
    await frame.get_by_role("heading", name="Person 1").wait_for()
    project.people()
    await page.locator("#mail").wait_for(state="hidden")
    assert await page.locator("#rail").is_hidden()
    project.people("z@example.com,Zoe", "person1@example.com,Back")
    await frame.get_by_role("heading", name="Back").wait_for()
    assert await page.locator("#number").input_value() == "2"


@dataclass
class Elsewhere:
    """A server that a message would like to reach; what it was asked for, and how often."""

    connections: int = 0
    requests: list[str] = field(default_factory=list)
    address: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if line := await reader.readline():
            self.requests.append(line.split()[1].decode())
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()


@pytest.fixture
async def elsewhere() -> AsyncIterator[Elsewhere]:
    there = Elsewhere()
    server = await asyncio.start_server(there.serve, "127.0.0.1", 0)
    there.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield there
    server.close()
    await server.wait_closed()


HOSTILE = """\
<!doctype html><html><head><title>taken</title>
<meta http-equiv="refresh" content="0; url={there}/refresh">
<link rel="preconnect" href="{there}"><link rel="prefetch" href="{there}/prefetch">
<link rel="stylesheet" href="{there}/style.css"><base href="{there}/base/">
<style>@import "{there}/import.css"; body {{ background: url({there}/background.png) }}
@font-face {{ font-family: f; src: url({there}/font.woff) }} p {{ font-family: f }}</style>
<script src="{there}/script.js"></script>
<script>top.location = parent.location = "{there}/script"; fetch("{there}/fetch")</script></head>
<body onload="location = '{there}/onload'">
<p id="here">here</p>
<a id="self" href="{there}/self" target="_self">self</a>
<a id="top" href="{there}/top" target="_top" ping="{there}/ping">top</a>
<a id="blank" href="{there}/blank" target="_blank">blank</a>
<a id="script" href="javascript:top.location='{there}/js'" target="_self">script</a>
<form action="{there}/form" target="_top"><button id="send">send</button></form>
<iframe src="{there}/frame"></iframe><object data="{there}/object"></object>
<video src="{there}/video" poster="{there}/poster.png" autoplay></video>
<svg><image href="REMOTE" width="1"/><script>top.location="{there}/svg"</script></svg>
<img src="x" onerror="top.location='{there}/onerror'">{picture}
</body></html>
"""


@needs_chromium
async def test_hostile_mail_reaches_nothing(
    project: Project, preview: Start, page: Page, elsewhere: Elsewhere
) -> None:
    there = elsewhere.address
    letter(project, HOSTILE.format(there=there, picture="").replace("REMOTE", "x"))
    project.people("a@example.com,<img src=x onerror=alert(1)>", "b@example.com,<script>1</script>")
    dialogs: list[object] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog))
    shown = await preview()
    await page.goto(shown.address)
    frame = page.frame_locator("#device iframe").last
    await frame.locator("#here", has_text="here").wait_for()
    assert await page.locator("#device iframe").last.get_attribute("sandbox") == ""
    address = page.url
    for name in ("#top", "#blank", "#script", "#send"):
        await frame.locator(name).click(force=True, no_wait_after=True)
        assert await frame.locator("#here").inner_text() == "here"
    await frame.locator("#self").click(force=True, no_wait_after=True)
    # A request would be on its way by the time the next message is there.
    await page.keyboard.press("Escape")
    await page.locator("#next").click()
    await page.locator("#subject", has_text="For <script>1</script>").wait_for()
    await page.frame_locator("#device iframe").last.locator("#here").wait_for()
    assert (elsewhere.connections, elsewhere.requests) == (0, [])
    assert page.url == address.replace("#1", "#2") and len(page.context.pages) == 1
    assert dialogs == []
    assert await page.title() == "letter · bulkmail preview"
    assert await page.locator("#subject script, #list img, #data img").count() == 0


@needs_chromium
async def test_remote_images_come_after_a_click(
    project: Project, preview: Start, page: Page, elsewhere: Elsewhere
) -> None:
    project.people("a@example.com,Ann", "b@example.com,Bob")
    letter(project, f'<p>here</p><img src="{elsewhere.address}/pixel.png?{{{{ name }}}}" alt="">')
    await page.goto((await preview()).address)
    frame = page.frame_locator("#device iframe").last
    await frame.get_by_text("here").wait_for()
    assert elsewhere.connections == 0
    async with page.expect_response("**/pixel.png*"):
        await page.get_by_role("button", name="Load remote images").click()
    assert elsewhere.requests == ["/pixel.png?Ann"]
    await page.locator("#next").click()
    await page.locator("#subject", has_text="For Bob").wait_for()
    await page.get_by_role("button", name="Load remote images").wait_for()
    await frame.get_by_text("here").wait_for()
    assert elsewhere.requests == ["/pixel.png?Ann"], "the click counts for one message"
