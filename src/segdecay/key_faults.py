"""What was wrong with keys and values that pydantic refused, in plain lines."""

from __future__ import annotations

from collections.abc import Callable

import pydantic

from segdecay.errors import did_you_mean


def explain(error: pydantic.ValidationError, allowed_keys: Callable[[tuple[str | int, ...]], list[str]]) -> list[str]:
    """One plain line a fault: key, what is wrong, what we saw, what is near."""
    lines = []
    for fault in error.errors():
        path = tuple(fault["loc"])
        key = ".".join(str(part) for part in path)
        if fault["type"] == "extra_forbidden":
            allowed = allowed_keys(path)
            lines.append(
                f"Unknown key '{key}'; allowed here: {', '.join(allowed)}.{did_you_mean(str(path[-1]), allowed)}"
            )
        elif fault["type"] == "missing":
            lines.append(f"Key '{key}' is missing.")
        else:
            message = fault["msg"].removeprefix("Value error, ")
            near = ""
            if fault["type"] == "literal_error" and isinstance(fault["input"], str):
                expected = str(fault.get("ctx", {}).get("expected", ""))
                near = did_you_mean(
                    fault["input"], [word.strip("' ") for word in expected.replace(" or ", ",").split(",")]
                )
            lines.append(f"{key}: {message[0].lower()}{message[1:]}; saw {fault['input']!r}.{near}")
    return lines
