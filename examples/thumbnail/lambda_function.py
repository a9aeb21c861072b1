"""Makes a thumbnail of each picture that is put into a bucket."""

import io
import os
import urllib.parse
from pathlib import PurePosixPath

import boto3
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

SIZE = int(os.environ.get("THUMBNAIL_SIZE", "256"))
"""Thumbnails fit into a square of this many pixels."""

MAX_BYTES = 50_000_000
MAX_PIXELS = 50_000_000
"""Larger pictures are skipped: decoded, this many pixels take 200 MB, and as much again to turn."""

PREFIX = "thumbnails/"

s3 = boto3.client("s3")


class Skipped(Exception):
    """There is no thumbnail of this object; the text says why."""


def lambda_handler(event, context):
    """Handle an S3 event: one or more objects that were created."""
    made, skipped = [], []
    for record in event["Records"]:
        bucket = record["s3"]["bucket"]["name"]
        key = urllib.parse.unquote_plus(record["s3"]["object"]["key"])
        try:
            made.append(make_thumbnail(bucket, key))
        except Skipped as reason:
            print(f"skipped s3://{bucket}/{key}: {reason}")
            skipped.append({"key": key, "reason": str(reason)})
    return {"made": made, "skipped": skipped}


def make_thumbnail(bucket, key):
    """Make the thumbnail of one object; raise Skipped if it is not a picture to make one of."""
    if key.startswith(PREFIX):
        raise Skipped("it is a thumbnail itself")
    source = s3.get_object(Bucket=bucket, Key=key)
    if source["ContentLength"] > MAX_BYTES:
        raise Skipped(f"it has {source['ContentLength']} bytes; {MAX_BYTES} is the limit")
    original, thumbnail = shrink(source["Body"].read())
    format = "PNG" if thumbnail.mode == "RGBA" else "JPEG"
    target = f"{PREFIX}{PurePosixPath(key).with_suffix('.png' if format == 'PNG' else '.jpg')}"
    content = io.BytesIO()
    thumbnail.save(content, format, quality=85, optimize=True)
    s3.put_object(Bucket=bucket, Key=target, Body=content.getvalue(), ContentType=Image.MIME[format])
    return {"key": target, "size": list(thumbnail.size), "of": {"key": key, "size": list(original)}}


def shrink(content):
    """Return a picture's size as it is seen, and its thumbnail; raise Skipped."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise Skipped(f"it has {width} x {height} pixels; {MAX_PIXELS} in all is the limit")
            lies_on_its_side = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            # Of a large JPEG, decode no more than is needed; twice the size keeps it sharp.
            image.draft(None, (2 * SIZE, 2 * SIZE))
            thumbnail = in_plain_mode(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise Skipped("it is no picture that Pillow knows") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Skipped(f"it cannot be decoded: {error}") from None
    thumbnail.thumbnail((SIZE, SIZE), Image.Resampling.LANCZOS)
    # Where and with what it was taken is nobody's business; nor are comments.
    thumbnail.info.clear()
    return (height, width) if lies_on_its_side else (width, height), thumbnail


def in_plain_mode(image):
    """Return the picture as RGB, or as RGBA if any of it can be seen through."""
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        lowest, _ = rgba.getchannel("A").getextrema()
        return rgba if lowest < 255 else rgba.convert("RGB")
    if image.mode.startswith("I;16"):
        # Scaled by hand: Pillow's own conversion cuts off what is above 255.
        image = image.convert("F").point(lambda value: value * (1 / 257)).convert("L")
    return image.convert("RGB")
