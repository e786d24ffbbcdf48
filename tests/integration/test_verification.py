"""The quick part of the verification pack; the whole of it is ``make verify``."""

import pytest

from mlepi.verification import select


@pytest.mark.parametrize(
    "verification", select(quick=True), ids=lambda verification: verification.name
)
def test_quick_verification(verification):
    checks = verification.run()
    assert checks
    for check in checks:
        assert check.passed, check
