"""What an alert says, and that nothing crawled or uploaded can make it say something else."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from html.parser import HTMLParser
from typing import Any

import pytest
from PIL import Image

from copywatch.alerts.message import alert_mail, confirmation_mail, thumbnail
from copywatch.alerts.wording import percent
from copywatch.images import image_store
from copywatch.ledger.database import session
from copywatch.ledger.models import Application, ApplicationState, Evidence, Owner, Review
from copywatch.settings import Settings

pytestmark = pytest.mark.integration

Mail = Callable[..., EmailMessage]


@pytest.fixture
def mail(plant: Callable[..., int], config: Settings) -> Mail:
    """The mail of one evidence, as it arrives: written out and parsed again."""

    def make(**changed: Any) -> EmailMessage:
        number = plant(**changed)
        with session() as opened:
            made = alert_mail(opened.get_one(Evidence, number), image_store(), config)
        arrived = message_from_bytes(made.as_bytes(policy=policy.SMTP), policy=policy.default)
        assert isinstance(arrived, EmailMessage)
        return arrived

    return make


def body(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body((kind,))
    assert part is not None
    return str(part.get_content())


def plain_jpeg(colour: str, size: tuple[int, int]) -> bytes:
    """A plain JPEG."""
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "JPEG")
    return out.getvalue()


class Shown(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [str(value) for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("kind", ["plain", "html"])
def test_says_what_where_when_by_whom_and_how_sure(mail: Mail, kind: str):
    said = " ".join(body(mail(), kind).split())
    for part in (
        "lighthouse.jpg", "lumen", "http://lumen.example/photo/1", "http://lumen.example/1.jpg", "Finn",
        "2026-11-01 08:30 UTC", "2026-11-20 09:00 UTC", "78.5% of the fingerprint agrees", "T = 1", "0.2153", "mao/1",
    ):  # fmt: skip
        assert part in said, part


def test_shows_both_pictures_small(mail: Mail):
    made = mail()
    pictures = [part for part in made.walk() if part.get_content_type() == "image/jpeg"]
    assert [part["Content-ID"] for part in pictures] == ["<protected>", "<found>"]
    assert Shown(body(made, "html")).sources[:2] == ["cid:protected", "cid:found"]
    for part in pictures:
        with Image.open(io.BytesIO(part.get_content())) as image:
            assert (image.format, image.size) == ("JPEG", (480, 360))


def test_goes_to_the_owner_and_nobody_else(mail: Mail):
    made = mail()
    assert (made["To"], made["From"]) == ("Ada <ada@owners.example>", "Copywatch <alerts@copywatch.invalid>")
    assert made["Subject"] == "A changed copy of lighthouse.jpg was found on lumen"
    assert made["Auto-Submitted"] == "auto-generated"
    assert made["Cc"] is made["Bcc"] is None


def test_an_identical_one_says_so(mail: Mail):
    made = mail(verdict=0, distance=0.0)
    assert str(made["Subject"]).startswith("A copy of")
    assert "identical fingerprint" in body(made, "plain")


def test_the_very_same_file_says_so(mail: Mail):
    from tests.alerts.conftest import picture_of

    address = image_store().put(picture_of(0), "evidence")
    made = mail(verdict=0, distance=0.0, found_sha256=address[-64:], found_address=address)
    assert "the very same file" in body(made, "plain")


RESCORED = {"rule": "rescored", "distance": 0.1432, "threshold": 0.2275, "plain_distance": 0.0403, "view": "mirrored"}


@pytest.mark.parametrize("kind", ["plain", "html"])
def test_a_score_is_called_so_and_what_was_done_is_said(mail: Mail, kind: str):
    made = mail(**RESCORED)
    text = body(made, kind) if kind == "plain" else Shown(body(made, kind)).text
    said = " ".join(text.split())
    # The score is no share of the fingerprint; the paper's distance is.
    assert "96.0% of the fingerprint agrees" in said
    assert "T = 1, score 0.1432, Th 0.2275, SRPITP's distance 0.0403, mao/1" in said
    assert re.search(r"Done to it\s*mirrored", said)
    assert "Done to it" not in body(mail(number=2), kind)
    assert "T = 1, distance 0.2153, Th 0.4700, mao/1" in " ".join(body(mail(number=3), kind).split())


def test_a_mirrored_copy_with_an_identical_fingerprint_is_a_changed_one(mail: Mail):
    made = mail(**{**RESCORED, "verdict": 0, "distance": 0.05, "plain_distance": 0.0})
    assert str(made["Subject"]).startswith("A changed copy of")
    assert "identical fingerprint" in body(made, "plain")


def test_certain_by_a_raised_bound_is_not_called_identical(mail: Mail):
    said = body(mail(verdict=0, distance=0.02), "plain")
    assert "98.0% of the fingerprint agrees" in said
    assert "identical" not in said


def test_a_score_alone_is_no_share_of_anything(mail: Mail):
    said = body(mail(**(RESCORED | {"plain_distance": None})), "plain")
    assert "score 0.1432, where 0 is the same picture" in said
    assert "agrees" not in said


@pytest.mark.parametrize("kind", ["plain", "html"])
def test_an_old_sighting_says_why_it_comes_now(mail: Mail, kind: str):
    sentence = "Found on 2026-11-20, before you registered this image; matched when it was registered."
    assert sentence in " ".join(body(mail(registered_later=True), kind).split())
    assert "before you registered" not in body(mail(number=2), kind)


def test_a_picture_that_is_not_to_be_had_is_not_shown_and_not_said_to_be_kept(mail: Mail):
    looked = datetime(2026, 12, 24, 23, 0, tzinfo=UTC)
    made = mail(found_address=None, registered_later=True, created_at=looked)
    pictures = [part for part in made.walk() if part.get_content_type() == "image/jpeg"]
    assert [part["Content-ID"] for part in pictures] == ["<protected>"]
    assert "cid:found" not in Shown(body(made, "html")).sources
    for kind in ("plain", "html"):
        said = " ".join(body(made, kind).split())
        assert "no longer to be had at its address when we looked again on 2026-12-24" in said
        assert "bytes are kept" not in said
        assert "bytes are kept" in body(mail(number=2 if kind == "plain" else 3), kind)


VERIFIED = {
    "rule": "verified", "algorithm": "sift-itq/1", "distance": 0.027, "threshold": 0.6, "verification": "certain",
    "probability": 0.973, "edit": "crop, 31 % of the original, mirrored",
}  # fmt: skip


def text_of(made: EmailMessage, kind: str) -> str:
    """What a reader of this part sees."""
    return " ".join((body(made, kind) if kind == "plain" else Shown(body(made, kind)).text).split())


class TestVerified:
    @pytest.mark.parametrize("kind", ["plain", "html"])
    def test_says_how_sure_and_what_was_done(self, mail: Mail, kind: str):
        said = text_of(mail(**VERIFIED), kind)
        assert "97 % sure that it is a copy: a crop that shows 31 % of your image, mirrored" in said
        assert "T = 1, found by local features (sift-itq/1); verified: certain, probability 0.9730" in said
        assert "Done to it" not in said, "the sentence says it"
        assert "fingerprint agrees" not in said

    def test_of_both_stages_has_the_numbers_of_both(self, mail: Mail):
        said = text_of(mail(**RESCORED, verification="doubtful", probability=0.999, edit="mirrored"), "plain")
        assert "more than 99 % sure that it is a copy: mirrored" in said
        assert "SRPITP's distance 0.0403, mao/1; verified: doubtful, probability 0.9990" in said

    def test_taken_for_different_but_accepted_claims_no_probability(self, plant: Callable[..., int], config: Settings):
        numbers = [plant(**(RESCORED | {"verification": "different", "probability": 0.02})),
                   plant(number=2, **(VERIFIED | {"verification": "different", "probability": 0.02}))]  # fmt: skip
        told = []
        for number in numbers:
            with session() as opened:
                opened.add(Review(evidence_id=number, state="accepted", decided_by="rita"))
                opened.flush()
                told.append(text_of(alert_mail(opened.get_one(Evidence, number), image_store(), config), "plain"))
        assert all("sure that it is a copy" not in one for one in told)
        assert "96.0% of the fingerprint agrees, confirmed by a person" in told[0]
        assert "How sure confirmed by a person" in told[1]

    def test_an_edit_says_more_than_the_view(self, mail: Mail):
        same = {"verdict": 0, "plain_distance": 0.0, "verification": "certain", "probability": 0.99}
        said = text_of(mail(**(RESCORED | same | {"edit": "crop, 90 % of the original, mirrored"})), "plain")
        assert "identical fingerprint" in said
        assert "Done to it a crop that shows 90 % of your image, mirrored" in said

    def test_shows_the_explanation_as_it_was_drawn(self, mail: Mail):
        drawn = plain_jpeg("red", (1500, 500))
        address = image_store().put(drawn, "explanations")
        made = mail(explanation_address=address, **VERIFIED)
        pictures = {part["Content-ID"]: part for part in made.walk() if part.get_content_type() == "image/jpeg"}
        assert pictures["<explanation>"].get_content() == drawn
        assert Shown(body(made, "html")).sources[:3] == ["cid:protected", "cid:found", "cid:explanation"]

    def test_a_lost_explanation_keeps_no_alert_back(self, mail: Mail):
        made = mail(explanation_address="explanations/00/" + "0" * 64, **VERIFIED)
        assert [part["Content-ID"] for part in made.walk() if part.get_content_type() == "image/jpeg"] == [
            "<protected>", "<found>",
        ]  # fmt: skip
        assert "cid:explanation" not in body(made, "html")

    @pytest.mark.parametrize("kind", ["plain", "html"])
    def test_hostile_words_stay_words(self, mail: Mail, kind: str):
        made = mail(**(VERIFIED | {"edit": "<script>x</script>\r\nBcc: eve@evil.example"}))
        assert "a copy: <script>x</script> Bcc: eve@evil.example" in text_of(made, kind)
        assert "script" not in Shown(body(made, "html")).tags


@pytest.mark.parametrize(
    ("probability", "said"),
    [(1.0, "more than 99 %"), (0.995, "more than 99 %"), (0.9949, "99 %"), (0.5, "50 %"), (0.01, "1 %"),
     (0.0099, "less than 1 %"), (0.0, "less than 1 %")],
)  # fmt: skip
def test_no_measurement_is_said_to_be_sure(probability: float, said: str):
    assert percent(probability) == said


def test_leads_to_the_portal_and_nowhere_else(mail: Mail, config: Settings):
    made = mail()
    assert Shown(body(made, "html")).sources[2:] == [f"{config.portal_url}/alerts/1"]
    assert f"{config.portal_url}/alerts/1" in body(made, "plain")


def test_a_reviewed_one_says_that_a_person_confirmed_it(plant: Callable[..., int], config: Settings):
    number = plant()
    with session() as opened:
        opened.add(Review(evidence_id=number, state="accepted", decided_by="rita", decided_at=datetime.now(UTC)))
        opened.flush()
        made = alert_mail(opened.get_one(Evidence, number), image_store(), config)
    assert "agrees, confirmed by a person" in body(made, "plain")
    assert "rita" not in made.as_string()


def test_what_the_page_does_not_say_is_said_to_be_missing(mail: Mail):
    made = mail(uploader=None, uploaded_at=None)
    for kind in ("plain", "html"):
        assert body(made, kind).count("not said on the page") == 2


TOLD = {
    "uploader_url": "https://lumen.example/members/finn", "uploaded_at_source": "wordpress date_gmt",
    "caption": "Evening at the <pier>", "licence": "CC BY-SA 4.0",
}  # fmt: skip


def test_what_the_site_tells_beside_is_told(mail: Mail):
    made = mail(**TOLD)
    text, html = body(made, "plain"), Shown(body(made, "html"))
    for shown in (
        "2026-11-01 08:30 UTC (as the site's wordpress date_gmt says)",
        *list(TOLD.values())[::2],
        "CC BY-SA",
    ):
        assert shown in text
        assert shown in html.text
    lines = text.splitlines()
    assert "  Their page    https://lumen.example/members/finn" in lines
    assert "  Caption       Evening at the <pier>" in lines
    assert html.tags.count("a") == 1, "no link but the one to the portal"
    silent = body(mail(number=3), "plain")
    assert not [label for label in ("Their page", "Caption", "Licence", "as the site") if label in silent]


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "data:text/html,x", "https://lumen.example@evil.example/", "//evil.example", "x"]
)
def test_an_uploaders_address_that_no_link_may_lead_to_is_not_shown(mail: Mail, address: str):
    made = mail(uploader_url=address)
    assert "Their page" not in body(made, "plain") + body(made, "html")


def test_the_message_id_is_the_same_on_every_try_and_another_for_another_pair(mail: Mail, plant: Any, config: Settings):
    first = mail(number=1)["Message-ID"]
    with session() as opened:
        evidence = opened.get_one(Evidence, 1)
        assert alert_mail(evidence, image_store(), config)["Message-ID"] == first
        date = alert_mail(evidence, image_store(), config)["Date"]
    assert date == mail(number=2, created_at=evidence.created_at)["Date"]
    assert mail(number=3)["Message-ID"] != first


EVIL = 'Finn <3 film"\r\nBcc: eve@evil.example\r\n\r\n<script>alert(1)</script>\u202e\x00'
HARMLESS_EVIL = EVIL.replace("\x00", "")  # PostgreSQL takes no NUL, and the crawl sends none


class TestHostile:
    @pytest.mark.parametrize("field", ["uploader", "page_url", "image_url", "protected_filename", "site"])
    def test_what_others_wrote_is_text_and_one_line(self, mail: Mail, field: str):
        made = mail(**{field: HARMLESS_EVIL[:63] if field == "site" else HARMLESS_EVIL})
        plain = mail(number=2)
        assert made["Bcc"] is None
        assert set(made.keys()) == set(plain.keys())
        html = Shown(body(made, "html"))
        assert "script" not in html.tags
        assert html.tags == Shown(body(plain, "html")).tags
        # Nobody writes a line of their own into the mail: "How sure: the very same file".
        assert len(body(made, "plain").splitlines()) == len(body(plain, "plain").splitlines())
        assert "\u202e" not in body(made, "plain") + body(made, "html")

    @pytest.mark.parametrize("field", ["uploaded_at_source", "caption", "licence"])
    def test_so_is_what_they_tell_beside(self, mail: Mail, field: str):
        made, plain = mail(**{field: HARMLESS_EVIL * 50}), mail(number=2, **{field: "x"})
        assert Shown(body(made, "html")).tags == Shown(body(plain, "html")).tags
        lines = body(made, "plain").splitlines()
        assert len(lines) == len(body(plain, "plain").splitlines())
        assert max(map(len, lines)) < 400
        assert "\u202e" not in body(made, "plain") + body(made, "html")

    def test_an_owners_name_is_no_header(self, mail: Mail):
        made = mail(name=HARMLESS_EVIL)
        assert [address.addr_spec for address in made["To"].addresses] == ["ada@owners.example"]
        assert made["Bcc"] is None

    def test_a_long_name_makes_no_broken_header(self, mail: Mail):
        made = mail(protected_filename="x" * 5000 + ".jpg", name="Ä" * 400)
        assert len(str(made["Subject"])) <= 200
        assert [address.addr_spec for address in made["To"].addresses] == ["ada@owners.example"]

    def test_nobody_is_sent_the_crawled_bytes(self, config: Settings):
        payload = b"<script>evil</script>"
        out = io.BytesIO()
        Image.new("RGB", (700, 300), "red").save(out, "JPEG", comment=payload)
        small = thumbnail(out.getvalue() + payload, config)
        assert payload not in small
        with Image.open(io.BytesIO(small)) as image:
            assert image.size == (480, 206)


class TestConfirmation:
    def application(self, name: str, reason: str | None = None, **more: Any) -> Application:
        state = ApplicationState.REFUSED if reason else ApplicationState.PROTECTED
        return Application(filename=name, state=state, reason=reason, **more)

    def test_lists_what_is_protected_and_what_is_not(self, config: Settings):
        owner = Owner(id=7, email="ada@owners.example", name="Ada")
        until = datetime(2027, 5, 1, tzinfo=UTC)
        made = confirmation_mail(
            owner,
            [self.application("a.jpg", protected_until=until), self.application("b&c.jpg"),
             self.application("d.jpg", "truncated image")],
            "run-1", config,
        )  # fmt: skip
        assert made["Subject"] == "2 of 3 images are protected"
        assert made["Message-ID"] == "<confirmation-run-1-7@copywatch.invalid>"
        plain, html = body(made, "plain"), Shown(body(made, "html")).text
        for said in (plain, html):
            assert "a.jpg, until 2027-05-01" in said
            assert "b&c.jpg" in said
            assert "d.jpg: truncated image" in said

    def test_says_of_which_images_only_whole_copies_are_found(self, config: Settings):
        owner = Owner(id=7, email="ada@owners.example", name="Ada")
        both = [self.application("plain.jpg", id=3), self.application("rich.jpg", id=4)]
        made = confirmation_mail(owner, both, "run-1", config, whole_only={3})
        for said in (body(made, "plain"), Shown(body(made, "html")).text):
            assert "plain.jpg (a plain picture: copies of the whole are found, parts of it are not)" in said
            assert said.count("a plain picture") == 1
        assert [line.strip()[:5] for line in body(made, "plain").splitlines() if ".jpg" in line] == ["plain", "rich."]

    def test_a_file_name_is_one_line_of_text(self, config: Settings):
        owner = Owner(id=7, email="ada@owners.example", name="Ada")
        made = confirmation_mail(owner, [self.application("<b>x\ny</b>.jpg", "no\nimage")], "run-1", config)
        assert "b" not in Shown(body(made, "html")).tags
        assert "<b>x y</b>.jpg: no image" in body(made, "plain")
        assert made["Subject"] == "0 of 1 images are protected"
