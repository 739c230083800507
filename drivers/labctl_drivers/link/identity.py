"""Is it the box that we think it is?"""

from __future__ import annotations

import re
from dataclasses import fields

from labctl.devices import Identity
from labctl_drivers.link.wire_errors import WireLost


class WrongBox(WireLost):
    """Another instrument answers, or one that cannot be worked with. It is asked again before it is believed:
    a damaged name looks the same.
    """


def require_model(found: Identity, *models: str) -> None:
    """WrongBox unless its model is one of these, upper and lower case apart."""
    if found.model.casefold() not in {model.casefold() for model in models}:
        raise WrongBox(
            f"{found.vendor} {found.model!r} (serial {found.serial}) answers; allowed: {', '.join(models)}"
        )


def require_firmware(found: Identity, oldest: str) -> None:
    """WrongBox where its firmware is older, or its version has no number in it."""
    version = numbers_of(found.firmware)
    if not version or version < numbers_of(oldest):
        raise WrongBox(
            f"{found.model} (serial {found.serial}) has firmware {found.firmware!r}; allowed: {oldest} or "
            "newer, update it with its maker's tool"
        )


def require_same(found: Identity, before: Identity) -> None:
    """WrongBox where not the very box answers that was there before."""
    for field in fields(Identity):
        now, then = getattr(found, field.name), getattr(before, field.name)
        if now != then:
            raise WrongBox(f"another box answers: {field.name} is {now!r}, was {then!r}; open it again")


def numbers_of(version: str) -> tuple[int, ...]:
    """ "v1.12-rc3" to (1, 12): the dotted numbers that it begins with."""
    found = re.search(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
