"""Archives, looked at before anything in them is unpacked: how much it would be, and where it would go."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator

from control.knowledge.parse.blocks import Refused

MOST_MEMBERS = 10_000
MOST_BYTES = 512 * 1024 * 1024
"""Of all that is in an archive, unpacked."""
MOST_RATIO = 200
"""Unpacked against packed, of an archive that unpacks to more than 10 MiB: text has 3 to 20."""


class Members:
    """The files in an archive.

    Raises:
        Refused: `broken`, `encrypted`, `bad_path` or `too_large`.
    """

    def __init__(self, data: bytes) -> None:
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as exc:
            raise Refused("broken", f"it is no whole ZIP archive: {exc}") from exc
        members = self._archive.infolist()
        for member in members:
            parts = member.filename.replace("\\", "/").split("/")
            if ".." in parts or parts[0] == "" or ":" in parts[0] or "\0" in member.orig_filename:
                raise Refused("bad_path", f"{member.filename[:100]!r} in it leads out of the archive")
            if member.flag_bits & 1:
                raise Refused("encrypted", f"{member.filename[:100]!r} in it is encrypted: save it without a password")
        size = sum(member.file_size for member in members)
        if len(members) > MOST_MEMBERS:
            raise Refused("too_large", f"it has more than {MOST_MEMBERS} files: split it")
        if size > MOST_BYTES or (size > 10_485_760 and size > MOST_RATIO * max(len(data), 1)):
            raise Refused("too_large", f"it would unpack to {size} bytes, from {len(data)}: that is not taken")
        self.names = [member.filename for member in members if not member.is_dir()]

    def read(self, name: str) -> bytes:
        """Content of a file: never more than the archive has said."""
        try:
            return self._archive.read(name)
        except KeyError as exc:
            raise Refused("broken", f"it says that it has a file {name[:100]!r}, and has none") from exc
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as exc:
            raise Refused("broken", f"{name[:100]!r} in it does not unpack: {exc}") from exc

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)
