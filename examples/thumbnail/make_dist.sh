#!/usr/bin/env bash
# Copies what the function needs into the staging directory, $1, where Pillow is already.
set -euo pipefail

cp lambda_function.py "$1"

# Pillow's bindings to Tk: there is no screen in Lambda.
rm -f "$1"/PIL/_imagingtk.*.so "$1"/PIL/ImageTk.py
