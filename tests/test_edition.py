"""Editions: a campaign without its folder composes what it composes with it, byte for byte."""

import json
import shutil
import ssl
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulkmail.campaign import Campaign, read_campaign
from bulkmail.campaign.edition import FORMAT, campaign_of, edition_of
from bulkmail.compose.message import Composer
from bulkmail.compose.templates import RenderError
from bulkmail.errors import CampaignError, ExitStatus, MissingFileError
from bulkmail.model import Recipient, Security
from bulkmail.transport import SubmissionServer

from .conftest import Project, RecordingServer, StartServer, rows_of

EXAMPLES = Path(__file__).parent.parent
SEED = bytes(range(32))
AT = 1_790_000_000.0
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
FIXED = ("  password: ask", "  password: env:TEST_PASSWORD")


def people_of(campaign: Campaign) -> list[Recipient]:
    rows = [row for row in rows_of(campaign) if row.fault is None]
    return [Recipient(n, row.address, row.fields, row.source) for n, row in enumerate(rows)]


def composed(campaign: Campaign, people: list[Recipient]) -> list[bytes]:
    composer = Composer(campaign.design, campaign.load, SEED, campaign.open_file)
    return [b"".join(composer.compose(person, AT).content) for person in people]


Told = tuple[str, dict[str, bytes]]


def elsewhere(told: Told, files: Path | None = None) -> Campaign:
    edition, shared = told
    return campaign_of(edition, shared.__getitem__, files)


def assert_same_elsewhere(project: Path, campaign: Campaign, *, moved: Path | None = None) -> None:
    """`project` is gone by the time its edition is read; files of one person are in `moved`."""
    people = people_of(campaign)
    assert people
    expected, digest, design = composed(campaign, people), campaign.digest(), campaign.design
    told = edition_of(campaign)
    shutil.rmtree(project)
    again = elsewhere(told, moved)
    assert again.name == campaign.name
    assert again.file == campaign.file
    assert again.digest() == digest
    assert again.design == design
    assert list(again.design.images) == list(design.images)
    assert composed(again, people) == expected
    assert edition_of(again) == told


# -- the same messages -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["newsletter", "gmail"])
def test_the_examples(tmp_path: Path, name: str) -> None:
    project = tmp_path / "project"
    for folder in ("campaigns", "templates"):
        shutil.copytree(EXAMPLES / folder, project / folder)
    path = project / "campaigns" / f"{name}.yaml"
    path.write_text(path.read_text("utf-8").replace(*FIXED), "utf-8")
    assert_same_elsewhere(project, read_campaign(path))


@pytest.fixture
def lay_out(tmp_path: Path) -> Callable[..., Path]:
    """Writes files below a project; the path of its campaign."""

    def lay_out(more: str, files: Mapping[str, str | bytes], folder: str = "project") -> Path:
        project = tmp_path / folder
        text = f"""\
from: "소식 <news@example.org>"
subject: "{{{{ name }}}}님"
recipients:
  - {{email: kim@example.com, name: 김연주, plan: basic}}
  - {{email: lee@example.com, name: "<b>Lee</b>", plan: plus}}
smtp: {{host: smtp.example.org, username: news, password: env:TEST_PASSWORD}}
{more}
"""
        for name, content in {"july.yaml": text, **files}.items():
            path = project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return project / "july.yaml"

    return lay_out


LETTER = "template: {text: letter.txt}"


def test_images_attachments_settings_and_templates_of_templates(
    lay_out: Callable[..., Path],
) -> None:
    path = lay_out(
        """\
template: {html: letter.html, text: letter.txt}
variables: {issue: 11, list: [a, b]}
images: {zebra: files/z.png, logo: files/a.png}
attachments: [files/plan.pdf, {file: files/z.png, name: 그림.png}]
headers: {X-Plan: "{{ plan }}"}
list: {id: news.example.org, unsubscribe: {url: "https://example.org/{{ email | urlencode }}"}}
""",
        {
            "letter.html": "{% extends 'base.html' %}{% block letter %}{{ issue }}"
            '<img src="cid:logo"><img src="cid:zebra">{% endblock %}',
            "templates/base.html": "{% from 'macros' import hi %}<p>{{ hi(name) }}"
            "{% block letter %}{% endblock %}</p>",
            "templates/macros": "{% macro hi(name) %}Hi {{ name }}{% endmacro %}",
            "letter.txt": "\ufeff{% if plan == 'plus' %}{% include 'plus.txt' %}{% endif %}"
            "{% include ['no.txt', 'foot.txt'] %}{% include 'no.txt' ignore missing %}{{ list }}\n",
            "plus.txt": "With plus, 고맙습니다.\n",
            "foot.txt": "Bye\n",
            "files/z.png": PNG,
            "files/a.png": PNG + b"a",
            "files/plan.pdf": b"%PDF-1.4 plan",
        },
    )
    campaign = read_campaign(path, {"issue": "12"})
    assert b"12" in composed(campaign, people_of(campaign))[0]
    assert_same_elsewhere(path.parent, campaign)


def test_a_template_that_nobody_needed_so_far(lay_out: Callable[..., Path]) -> None:
    """Those who were composed before, or come later, find theirs, though nothing was composed."""
    path = lay_out(
        LETTER,
        {"letter.txt": "{% if name == 'Last' %}{% include 'last.txt' %}{% endif %}x",
         "last.txt": "the last\n"},
    )  # fmt: skip
    told = edition_of(read_campaign(path))
    shutil.rmtree(path.parent)
    [message] = composed(elsewhere(told), [Recipient(1, "a@example.com", {"name": "Last"}, "x:1")])
    assert b"the last" in message


def test_templates_that_a_subject_names(lay_out: Callable[..., Path]) -> None:
    path = lay_out(
        LETTER + "\nheaders: {X-Plan: \"{% include 'plan.txt' %}\"}",
        {"letter.txt": "x\n", "plan.txt": "{{ plan }}"},
    )
    assert_same_elsewhere(path.parent, read_campaign(path))


def test_a_name_that_named_nothing_names_nothing(
    lay_out: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if there is such a file where the edition is read."""
    path = lay_out(LETTER, {"letter.txt": "{% include 'no.txt' ignore missing %}x\n"})
    campaign = read_campaign(path)
    told, expected = edition_of(campaign), composed(campaign, people_of(campaign))
    (path.parent / "no.txt").write_text("here it is")
    monkeypatch.chdir(path.parent)
    again = elsewhere(told)
    assert composed(again, people_of(campaign)) == expected
    assert again.load("no.txt") is None


def test_a_name_that_was_not_asked_for_is_never_missing_in_silence(
    lay_out: Callable[..., Path],
) -> None:
    again = elsewhere(edition_of(read_campaign(lay_out(LETTER, {"letter.txt": "x"}))))
    with pytest.raises(CampaignError, match=r"'other\.txt' was not prepared with the campaign"):
        again.load("other.txt")


@pytest.mark.parametrize("tag", ["include", "extends", "import"])
def test_names_of_templates_are_written_out(lay_out: Callable[..., Path], tag: str) -> None:
    """What lets all templates be known: that a row's cell chooses one is refused anywhere."""
    end = " as x" if tag == "import" else ""
    path = lay_out(LETTER, {"letter.txt": f"{{% {tag} row.plan{end} %}}", "basic": "x"})
    campaign = read_campaign(path)
    for here in (campaign, elsewhere(edition_of(campaign))):
        with pytest.raises(RenderError, match="the name of a template is written out"):
            composed(here, [])


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=20)
SENDABLE = st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="{}#%")
TEXTS = st.text(SENDABLE | st.sampled_from("\n\t"), max_size=200)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(text=TEXTS, part=TEXTS, issue=st.text(max_size=20), file=st.binary(max_size=100), name=NAMES)
def test_any_text_file_and_setting(
    lay_out: Callable[..., Path], text: str, part: str, issue: str, file: bytes, name: str
) -> None:
    path = lay_out(
        f"template: {{html: letter.html}}\nvariables: {{issue: 1}}\nattachments: [file.{len(file)}]\n",
        {"letter.html": f"<p>{text}{{{{ name }}}}{{% include 'part' %}}", "part": part,
         f"file.{len(file)}": file},
    )  # fmt: skip
    campaign = read_campaign(path, {"issue": issue})
    edition, shared = edition_of(campaign)
    edition.encode("ascii")
    people = [replace(person, fields={"name": name}) for person in people_of(campaign)]
    again = elsewhere((edition, shared))
    assert again.settings == {"issue": issue}
    assert again.design == campaign.design
    assert composed(again, people) == composed(campaign, people)


# -- files of one person ---------------------------------------------------------------------------

PERSONAL = LETTER + '\nattachments: [{file: "letters/{{ plan }}.txt", name: "{{ name }}.txt"}]'
OWN_FILES = {
    "letter.txt": "x\n", "letters/basic.txt": "Kim's", "letters/plus.txt": "Lee's",
    "secret.txt": "secret",
}  # fmt: skip


def test_files_of_one_person_come_from_a_folder(
    lay_out: Callable[..., Path], tmp_path: Path
) -> None:
    path = lay_out(PERSONAL, OWN_FILES)
    campaign = read_campaign(path)
    assert campaign.has_personal_files
    shutil.copytree(path.parent / "letters", tmp_path / "copy" / "letters")
    assert_same_elsewhere(path.parent, campaign, moved=tmp_path / "copy")


def test_files_of_one_person_stay_in_their_folder(
    lay_out: Callable[..., Path], tmp_path: Path
) -> None:
    path = lay_out(PERSONAL, OWN_FILES)
    told = edition_of(read_campaign(path))
    copy = tmp_path / "copy"
    shutil.move(path.parent, copy)
    (tmp_path / "outside.txt").write_text("outside")
    (copy / "letters" / "link.txt").symlink_to(tmp_path / "outside.txt")
    again = elsewhere(told, copy)
    for plan in ("../secret", "link", "../../outside"):
        person = Recipient(1, "a@example.com", {"name": "A", "plan": plan}, "x:1")
        with pytest.raises(RenderError, match="leads out of"):
            composed(again, [person])


def test_a_file_of_one_person_that_differs_from_the_planned_one(
    lay_out: Callable[..., Path], tmp_path: Path
) -> None:
    path = lay_out(PERSONAL, OWN_FILES)
    campaign = read_campaign(path)
    composer = Composer(campaign.design, campaign.load, SEED, campaign.open_file)
    [kim, _] = people_of(campaign)
    kim = replace(kim, files_digest=composer.files_digest(kim))
    again = elsewhere(edition_of(campaign), path.parent)
    assert composed(again, [kim]) == composed(campaign, [kim])
    (path.parent / "letters" / "basic.txt").write_text("Lee's")
    with pytest.raises(RenderError, match="changed since it was checked"):
        composed(again, [kim])


def test_files_of_one_person_need_a_folder(lay_out: Callable[..., Path], tmp_path: Path) -> None:
    told = edition_of(read_campaign(lay_out(PERSONAL, OWN_FILES)))
    with pytest.raises(CampaignError, match="start the worker with --files DIR"):
        elsewhere(told)
    with pytest.raises(MissingFileError, match="--files: no folder"):
        elsewhere(told, tmp_path / "nowhere")


# -- secrets and the server ------------------------------------------------------------------------


def test_no_secret_stands_in_an_edition(
    lay_out: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_PASSWORD", "the-secret-marker")
    campaign = read_campaign(lay_out(LETTER, {"letter.txt": "x"}))
    assert campaign.submission().password == "the-secret-marker"
    edition, shared = edition_of(campaign)
    assert "env:TEST_PASSWORD" in edition
    assert "the-secret-marker" not in edition
    assert not any(b"the-secret-marker" in content for content in shared.values())
    assert elsewhere((edition, shared)).submission() == campaign.submission()


@pytest.mark.parametrize("password", ["ask", "file:secret.txt"])
def test_a_password_that_workers_cannot_have(lay_out: Callable[..., Path], password: str) -> None:
    path = lay_out(LETTER, {"letter.txt": "x", "secret.txt": "s"})
    path.write_text(path.read_text("utf-8").replace("env:TEST_PASSWORD", password), "utf-8")
    with pytest.raises(CampaignError, match=f"cannot use `{password}`; write env:NAME") as caught:
        edition_of(read_campaign(path))
    assert caught.value.status is ExitStatus.DATA
    [problem] = caught.value.problems
    assert problem.place.endswith("july.yaml:6:58")


def test_without_a_login_no_password_is_needed(lay_out: Callable[..., Path]) -> None:
    path = lay_out(LETTER, {"letter.txt": "x"})
    login = ", username: news, password: env:TEST_PASSWORD"
    path.write_text(path.read_text("utf-8").replace(login, ""), "utf-8")
    assert_same_elsewhere(path.parent, read_campaign(path))


async def test_the_authority_goes_along(
    serve: StartServer, project: Project, certificate: tuple[ssl.SSLContext, Path]
) -> None:
    """A server that only this campaign trusts, from where its CA file is not."""
    server = await serve()
    path = with_authority(project, server)
    project.write("ca.pem", f"\ufeff# Größe\r\n{certificate[1].read_text()}")
    told = edition_of(read_campaign(path))
    shutil.rmtree(project.folder)
    submission = elsewhere(told).server
    assert submission.security is Security.TLS
    session = await SubmissionServer(replace(submission, password="secret")).connect()
    await session.quit()


@pytest.mark.parametrize("content", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nA\n"])
async def test_an_authority_that_is_none_is_never_the_system(
    serve: StartServer, project: Project, content: str
) -> None:
    project.write("ca.pem", content)
    campaign = read_campaign(with_authority(project, await serve()))
    with pytest.raises(CampaignError, match=r"ca\.pem holds no certificates in PEM"):
        edition_of(campaign)
    with pytest.raises(MissingFileError, match=r"ca\.pem \(smtp\.ca_file\) holds no certificates"):
        await SubmissionServer(replace(campaign.server, password="secret")).connect()


def with_authority(project: Project, server: RecordingServer) -> Path:
    """The campaign, which trusts the CA in ca.pem."""
    path = project.campaign(server)
    path.write_text(path.read_text().replace(str(server.submission.ca_file), "ca.pem"))
    return path


# -- what is refused -------------------------------------------------------------------------------


@pytest.fixture
def told(lay_out: Callable[..., Path]) -> Told:
    more = LETTER + "\nattachments: [plan.pdf]"
    return edition_of(read_campaign(lay_out(more, {"letter.txt": "x", "plan.pdf": b"plan"})))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (FORMAT + 1, "planned by a newer bulkmail; upgrade the worker"),
        (FORMAT - 1, "an older bulkmail"),
    ],
)
def test_another_format(told: Told, number: int, words: str) -> None:
    edition = json.dumps({"format": number, "anything": "else"})
    with pytest.raises(CampaignError, match=words):
        elsewhere((edition, told[1]))


@pytest.mark.parametrize("key", ["file", "text", "settings", "templates", "attachments", "digest"])
def test_an_edition_with_a_piece_missing(told: Told, key: str) -> None:
    edition = json.loads(told[0])
    del edition[key]
    with pytest.raises(CampaignError, match="cannot be read; plan it again"):
        elsewhere((json.dumps(edition), told[1]))


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{", '"x"', '{"format": null}', '{"format": 1}']
)
def test_no_edition(text: str) -> None:
    with pytest.raises(CampaignError, match="cannot be read; plan it again"):
        elsewhere((text, {}))


@pytest.mark.parametrize("change", [("님", "께"), ('"x"', '"y"'), ("application/pdf", "image/png")])
def test_another_content_than_the_planned_one_is_not_sent(
    told: Told, change: tuple[str, str]
) -> None:
    edition = json.dumps(json.loads(told[0]), ensure_ascii=False)
    assert change[0] in edition
    with pytest.raises(CampaignError, match="not the content that was planned"):
        elsewhere((edition.replace(*change), told[1]))


def test_another_file_than_the_planned_one_is_not_sent(told: Told) -> None:
    with pytest.raises(CampaignError, match="not the content that was planned"):
        campaign_of(told[0], lambda sha256: b"another plan", None)


def test_a_file_that_is_lost(told: Told) -> None:
    with pytest.raises(CampaignError, match=r'lost the file "plan\.pdf"; plan it again'):
        elsewhere((told[0], {}))
