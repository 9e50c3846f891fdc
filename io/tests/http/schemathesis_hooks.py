"""To JSON Schema 7.0 is an integer; to the node it is none."""

import schemathesis


def integers(value):
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [integers(item) for item in value]
    if isinstance(value, dict):
        return {name: integers(item) for name, item in value.items()}
    return value


@schemathesis.hook
def map_body(context, body):
    return integers(body)
