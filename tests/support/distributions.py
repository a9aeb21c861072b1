"""A project that builds a wheel, as real backends do."""

from __future__ import annotations

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""

BACKEND = '''
"""Builds a wheel of lib.py, as a real backend does."""
import os, subprocess, sys, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    # before
    name = "lib-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        wheel.write("lib.py")
        wheel.writestr("lib-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: lib\\nVersion: 1.0\\n")
        wheel.writestr("lib-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("lib-1.0.dist-info/RECORD", "lib.py,,\\n")
    return name

build_editable = build_wheel
'''

LIB = {"lib/pyproject.toml": PYPROJECT, "lib/backend.py": BACKEND, "lib/lib.py": "name = 'lib'\n"}
