"""A program that unpacks a layer."""

from __future__ import annotations


def unpack_layer() -> None:
    """Unpack a zip over what is there, links included.  Runs as a program of its own, like ``import_handler``."""
    import os
    import stat
    import sys
    import zipfile

    archive, folder = zipfile.ZipFile(sys.argv[1]), sys.argv[2]
    os.makedirs(folder, exist_ok=True)
    for info in archive.infolist():
        path = os.path.join(folder, info.filename)
        if os.path.islink(path):
            os.unlink(path)
        path = archive.extract(info, folder)
        if stat.S_ISLNK(info.external_attr >> 16):
            os.unlink(path)
            os.symlink(archive.read(info), os.fsencode(path))
    print(sum(info.file_size for info in archive.infolist()), "bytes")
