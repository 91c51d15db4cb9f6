"""How Schemathesis sends pictures and lines of JSON. Used by scripts/api-check."""

import json

import schemathesis


@schemathesis.serializer("image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "application/octet-stream")
def picture(context, value):
    value = getattr(value, "data", value)
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    return "".join(json.dumps(line) + "\n" for line in (value if isinstance(value, list) else [value])).encode()
