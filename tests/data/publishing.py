"""Small files that tests make in the formats of published sets, taken for the published ones."""

import dataclasses
import hashlib
import io
import struct
import tarfile
import zipfile

import numpy as np
import scipy.io

from capsjax.data import KnownArchive


def publish(monkeypatch, folder, cls, contents):
    """Write files, by key and content, under the names of a set's own, and have them be the known ones."""
    ours = cls.published()
    files = {}
    for key, content in contents.items():
        name = ours.files[key].names[0]
        (folder / name).write_bytes(content)
        files[key] = KnownArchive(name, len(content), hashlib.sha256(content).hexdigest())
    published = dataclasses.replace(ours, files=files)
    monkeypatch.setattr(cls, "published", classmethod(lambda cls: published))
    return str(folder)


def tar_of(members, mode="w:gz"):
    """A tar archive of contents by name; a `TarInfo` in place of a content is added as it is."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def zip_of(**members):
    """A zip archive of contents by name, a double underscore for the dot."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return stream.getvalue()


def mat_of(**arrays):
    """A file of MATLAB, version 5."""
    stream = io.BytesIO()
    scipy.io.savemat(stream, arrays, do_compression=True)
    return stream.getvalue()


def norb_of(array):
    """NORB's matrix format: magic number, sizes of at least three axes, values."""
    magic = 0x1E3D4C55 if array.dtype == np.uint8 else 0x1E3D4C54
    sizes = (*array.shape, 1, 1)[: max(3, array.ndim)]
    values = array if array.dtype == np.uint8 else array.astype("<i4")
    head = struct.pack("<II", magic, array.ndim) + struct.pack(f"<{len(sizes)}I", *sizes)
    return head + values.tobytes()
