#!/usr/bin/env bash
# Puts the function into the staging directory, $1, where its dependencies are already.
set -euo pipefail
staging=$1

# The code, from its src/ layout, and beside it the data that it reads.
cp -R src/report "$staging"
mkdir "$staging/report/data"
cp data/sales.csv "$staging/report/data/"

# No -f below: should a new version keep these elsewhere, the build says so instead of shipping them.
# The time zones of the world: our sales have dates, not hours.
rm -r "$staging/tzdata/zoneinfo"
# What only serves to compile Fortran; numpy's headers and libraries for compilers yo-dawg has pruned.
rm -r "$staging/numpy/f2py"

# A package that lost too much would be found by the first user, so try it here.
cd "$staging"
"$PYTHON" -B -c 'from report.app import handler; print(handler({}, None)["groups"][0])'
