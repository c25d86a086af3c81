"""Where profiles come from: the files that ship with the daemon, or one of the user's own."""

from importlib import resources
from pathlib import Path

from rm.core.errors import InvalidRequest
from rm.core.profile import Profile, parse_profile

_SUFFIX = ".toml"


def builtin_names() -> list[str]:
    """Names of the profiles that ship with the daemon."""
    folder = resources.files("rm.devices").joinpath("profile_data")
    return sorted(file.name.removesuffix(_SUFFIX) for file in folder.iterdir() if file.name.endswith(_SUFFIX))


def load_profile(name_or_path: str) -> Profile:
    """Reads a profile by its name, or from a file where it has a slash or ends in ``.toml``.

    The name of an array may have a shape behind it, columns by rows: ``aie:4x6``.

    Raises:
        InvalidRequest: no such profile or file, or a broken one; the text says what there is.
    """
    if "/" in name_or_path or name_or_path.endswith(_SUFFIX):
        try:
            text = Path(name_or_path).read_text(encoding="utf-8")
        except (OSError, ValueError) as fault:  # no such file, no text, or no name of a file
            raise InvalidRequest(f"cannot read the profile {name_or_path}: {fault}", profile=name_or_path) from fault
        return parse_profile(text)
    name, has_shape, shape = name_or_path.partition(":")
    if name not in builtin_names():
        there = ", ".join(builtin_names())
        raise InvalidRequest(f"there is no profile {name_or_path!r}; there are {there}", profile=name_or_path)
    file = resources.files("rm.devices").joinpath("profile_data", name + _SUFFIX)
    profile = parse_profile(file.read_text(encoding="utf-8"))
    return profile.shaped(shape) if has_shape else profile
