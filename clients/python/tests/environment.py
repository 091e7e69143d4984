"""What the tests find in the environment, made by scripts/with-services.sh."""

import os


def given(name: str) -> str:
    """The variable, which must be there: a test without a service is no test."""
    value = os.environ.get(name)
    if not value:
        raise RuntimeError(f"{name} is not set: run `scripts/with-services.sh clients/python/test.sh`")
    return value
