"""The former name of tests/support/embedded.py, for the tests that have not moved to their rooms yet."""

from tests.support.embedded import NEWEST as NEWEST
from tests.support.embedded import Builder as Builder
from tests.support.embedded import FunctionFailed as FunctionFailed
from tests.support.embedded import lay_out as lay_out
from tests.support.embedded import small_zip as small_zip
