"""The classes of pictures in WebDataset's shards: ``key.cls`` or ``.json`` beside ``key.jpg``."""

import json
from io import FileIO
from pathlib import Path

from patchcollide.errors import ImageError
from patchcollide.images.listings import class_name
from patchcollide.images.tars import Member, Members
from patchcollide.images.windows import open_container

_LABEL_BYTES = 1 << 20

_LABEL_KEYS = ("label", "cls", "class")


def has_labels(members: Members) -> bool:
    """Says whether an archive's pictures have labels beside them."""
    keys = {_key(member.name)[0] for member in members.pictures}
    beside = [member for member in members.labels if _key(member.name)[0] in keys]
    kinds = {_key(member.name)[1] for member in beside}
    # In a folder of a class, a JSON file may tell anything.
    return "cls" in kinds or ("json" in kinds and all("/" not in member.name for member in beside))


def labels_of(path: Path, members: Members) -> dict[Member, str]:
    """Returns the classes of the pictures of a shard.

    Args:
        path: The shard.
        members: Its members.

    Raises:
        ImageError: If a picture has no label, or one that is none.
    """
    pictures = members.pictures
    keys = {member: _key(member.name)[0] for member in pictures}
    labels = _labels_by_key(path, members, set(keys.values()))
    if missing := [member.name for member, key in keys.items() if key not in labels]:
        first = keys[pictures[0]]
        raise ImageError(
            f"{path} holds {len(pictures)} pictures, but {len(missing)} of them have no label, "
            f"such as {missing[0]}: expected {first}.cls or {first}.json beside. Add labels, or "
            "give other shards."
        )
    return {member: labels[key] for member, key in keys.items()}


def _key(name: str) -> tuple[str, str]:
    """Splits a member's name as WebDataset does: at the first dot of its last part."""
    folder, slash, last = name.rpartition("/")
    key, _, kind = last.partition(".")
    return f"{folder}{slash}{key}", kind.lower()


def _labels_by_key(path: Path, members: Members, wanted: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    with open_container(path) as file:
        # A sample may have both: then the class alone, which is what training reads, counts.
        for kind in ("json", "cls"):
            for member in members.labels:
                key, own_kind = _key(member.name)
                if own_kind == kind and key in wanted:
                    label = _label(path, member, file, kind)
                    found |= {key: label} if label else {}
    return found


def _label(path: Path, member: Member, file: FileIO, kind: str) -> str:
    """Reads a label; nothing if a JSON object has none."""
    file.seek(member.offset)
    content = file.read(min(member.size, _LABEL_BYTES))
    try:
        text = content.decode().strip()
        if kind == "json":
            values = json.loads(text)
            found = next((values[key] for key in _LABEL_KEYS if key in values), None)
            text = str(found) if isinstance(found, str | int) else ""
        # So splits are marked whose labels nobody is to know.
        return class_name(text) if text not in ("", "-1") else ""
    except (ValueError, TypeError, RecursionError) as error:
        raise ImageError(
            f"{path}: {member.name} should be a label, a number or a name, but is {content[:40]!r} "
            f"({error}). Correct it, or give other shards."
        ) from error
