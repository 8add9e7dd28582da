"""Bodies that are no JSON, as schemathesis is to send them: the bytes or the text that it made up."""

import schemathesis


@schemathesis.serializer("application/x-tar", "application/toml")
def plain(ctx, value):
    if isinstance(value, bytes):
        return value
    return value.encode("utf-8", "replace") if isinstance(value, str) else repr(value).encode()
