"""How Schemathesis sends pictures: as they are. Used by scripts/api-check."""

import schemathesis


@schemathesis.serializer("image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "application/octet-stream")
def picture(context, value):
    value = getattr(value, "data", value)
    return value if isinstance(value, bytes) else str(value).encode()
