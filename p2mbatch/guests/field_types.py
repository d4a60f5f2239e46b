"""The types of a scenario's fields: what a person may write for each, and what it becomes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.sizes import parse_size
from p2mbatch.guests.host_sizes import MAX_HOST_BYTES, canonical_hosts
from p2mbatch.model import kernels, policies, toolstacks
from p2mbatch.model.xen import parse_xen


def size_of(value: Any) -> Any:
    """Return a size in bytes from what a person wrote; anything else is left to pydantic."""
    if isinstance(value, str):
        try:
            return parse_size(value)
        except InputError as error:
            raise ValueError(str(error).removeprefix("size: ")) from None
    return value


def _no_negative_zero(value: float) -> float:
    """Return `value` with -0.0 as 0.0, so that equal fractions have equal digests."""
    return value + 0.0


def whole_pages(value: int) -> int:
    """Return bytes that are whole pages; ValueError with the nearest that are, of others."""
    if value % PAGE_BYTES:
        raise ValueError(
            f"{value} bytes are not whole pages of {PAGE_BYTES}: "
            f"{value - value % PAGE_BYTES} or {value - value % PAGE_BYTES + PAGE_BYTES} are"
        )
    return value


Fraction = Annotated[
    float, Field(ge=0, le=1, allow_inf_nan=False), AfterValidator(_no_negative_zero)
]

SizeBytes = Annotated[
    int,
    BeforeValidator(size_of, json_schema_input_type=int | str),
    Field(ge=PAGE_BYTES, le=MAX_HOST_BYTES),
]


def _known_policy(value: str) -> str:
    """Return the name of a policy that there is; pydantic makes the ValueError ours.

    A file of the user's own is read here: it is named by whoever makes the scenario.
    """
    from p2mbatch.kernels.named import named_policy

    try:
        value = named_policy(value)
    except InputError as error:
        raise ValueError(str(error)) from None
    if policies.is_reference(value) and not policies.is_known(value):
        short = policies.shown(value).short
        raise ValueError(f"{value} was not read here: name its file, as --policy {short}")
    if not policies.is_known(value):
        known = [repr(name) for name in policies.names()]
        raise ValueError(f"should be {', '.join(known[:-1])} or {known[-1]}, not {value!r}")
    return value


def _canonical_xen(value: str) -> str:
    """Return a version as 4.1 or 4.1.2; pydantic makes the ValueError ours."""
    if not value:
        return value
    try:
        version = parse_xen(value, "")
    except InputError as error:
        raise ValueError(str(error).removeprefix(": ")) from None
    return ".".join(map(str, version if version[2] else version[:2]))


def _known_toolstack(value: str) -> str:
    """Return the name of a toolstack that there is; pydantic makes the ValueError ours."""
    try:
        return toolstacks.find(value).name
    except InputError as error:
        raise ValueError(str(error).removeprefix("toolstack: ")) from None


def _canonical_vaddr(value: Any) -> Any:
    """Return an address as 0x and its hex digits; pydantic makes the ValueError ours."""
    if isinstance(value, str):
        try:
            value = int(value, 0)
        except ValueError:
            raise ValueError(f"{value!r} is not an address, such as 0xffffc90000000000") from None
    if type(value) is not int or not 0 <= value < 1 << 64 or value % (1 << 21):
        raise ValueError(f"{value!r} is not a 64-bit address at a multiple of 2 MiB")
    return f"{value:#x}"


def _canonical_release(value: str) -> str:
    """Return a release of Linux as scenarios have it; pydantic makes the ValueError ours."""
    if not value:
        return value
    try:
        return kernels.canonical_version(value)
    except InputError as error:
        raise ValueError(str(error).removeprefix("linux: ")) from None


LinuxVersion = Annotated[str, AfterValidator(_canonical_release)]

PolicyName = Annotated[str, AfterValidator(_known_policy)]

Hosts = Annotated[
    str, BeforeValidator(canonical_hosts, json_schema_input_type=str | list[int | str])
]

XenVersion = Annotated[str, AfterValidator(_canonical_xen)]

Stuck = Literal["end", "stay"]

SizeOrNone = Annotated[
    int,
    BeforeValidator(size_of, json_schema_input_type=int | str),
    Field(ge=0, le=MAX_HOST_BYTES),
]

ToolstackName = Annotated[str, AfterValidator(_known_toolstack)]

Address = Annotated[str, BeforeValidator(_canonical_vaddr, json_schema_input_type=int | str)]

GrowWhere = Literal["within", "beyond", "identity"]

Told = Literal["auto", "yes", "no"]

Layout = Literal["tail", "scattered", "extents", "identity", "guest"]


def _yes_or_no(value: Any) -> Any:
    """Return true and false as scenarios have them; anything else is left to pydantic."""
    words = {True: "yes", False: "no", "true": "yes", "false": "no"}
    return words.get(value, value) if isinstance(value, bool | str) else value


YesNo = Annotated[
    Literal["no", "yes"], BeforeValidator(_yes_or_no, json_schema_input_type=bool | str)
]
