import io

import pytest
from PIL import Image

import lambda_function


class FakeS3:
    def __init__(self, objects):
        self.objects = objects

    def get_object(self, Bucket, Key):
        return {"ContentLength": len(self.objects[Key]), "Body": io.BytesIO(self.objects[Key])}

    def put_object(self, Bucket, Key, Body, ContentType):
        self.objects[Key] = Body


def picture(mode, size, color, format="PNG", **options):
    content = io.BytesIO()
    Image.new(mode, size, color).save(content, format, **options)
    return content.getvalue()


@pytest.fixture
def handle(monkeypatch):
    def handle(key, content):
        s3 = FakeS3({key.replace("+", " "): content})
        monkeypatch.setattr(lambda_function, "s3", s3)
        event = {"Records": [{"s3": {"bucket": {"name": "b"}, "object": {"key": key}}}]}
        answer = lambda_function.lambda_handler(event, None)
        return answer, {made["of"]["key"]: Image.open(io.BytesIO(s3.objects[made["key"]])) for made in answer["made"]}

    return handle


@pytest.mark.parametrize(
    ("mode", "color", "format", "seen"),
    [
        ("RGB", (200, 0, 0), "PNG", (200, 0, 0)),
        ("L", 90, "PNG", (90, 90, 90)),
        ("1", 1, "PNG", (255, 255, 255)),
        ("I;16", 257 * 90, "PNG", (90, 90, 90)),
        ("CMYK", (0, 255, 255, 0), "JPEG", (255, 0, 0)),
        ("RGBA", (200, 0, 0, 255), "PNG", (200, 0, 0)),
        ("RGBA", (200, 0, 0, 100), "PNG", (200, 0, 0, 100)),
    ],
)
def test_all_modes_are_shown_as_they_are(handle, mode, color, format, seen):
    answer, thumbnails = handle("a+b.x", picture(mode, (600, 300), color, format))
    thumbnail = thumbnails["a b.x"]
    assert thumbnail.size == (256, 128)
    pixel = thumbnail.getpixel((10, 10))
    assert len(pixel) == len(seen)
    assert all(abs(a - b) <= 6 for a, b in zip(pixel, seen, strict=True))
    assert answer["made"][0]["key"] == f"thumbnails/a b.{'png' if len(seen) == 4 else 'jpg'}"


def test_pictures_on_their_side_are_turned(handle):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "a camera"
    answer, thumbnails = handle("p.jpg", picture("RGB", (640, 480), "red", "JPEG", exif=exif))
    assert answer["made"][0]["of"]["size"] == [480, 640]
    assert thumbnails["p.jpg"].size == (192, 256)
    assert not thumbnails["p.jpg"].getexif()


def test_small_pictures_keep_their_size(handle):
    _, thumbnails = handle("p.png", picture("RGB", (20, 10), "red"))
    assert thumbnails["p.png"].size == (20, 10)


@pytest.mark.parametrize(
    ("key", "content", "reason"),
    [
        ("notes.txt", b"no picture", "no picture that Pillow knows"),
        ("cut.png", picture("RGB", (600, 300), "red")[:80], "cannot be decoded"),
        ("thumbnails/p.png", b"", "a thumbnail itself"),
    ],
)
def test_what_is_no_picture_is_skipped(handle, key, content, reason):
    answer, _ = handle(key, content)
    assert answer["made"] == []
    assert reason in answer["skipped"][0]["reason"]


def test_huge_pictures_are_skipped(handle, monkeypatch):
    monkeypatch.setattr(lambda_function, "MAX_PIXELS", 100)
    answer, _ = handle("p.png", picture("RGB", (20, 10), "red"))
    assert "20 x 10 pixels" in answer["skipped"][0]["reason"]
