"""Commands as notebooks give them."""

import pytest

from mlepi.commands.lines import run_line
from mlepi.errors import MlepiError


def test_a_line_says_what_a_shell_would_show():
    assert "mlepi COMMAND" in run_line("--help")


@pytest.mark.parametrize("line", ["inspect 'no such file'", "inspect --mostly 3"])
def test_a_line_that_fails_is_an_error_with_its_last_words(line):
    with pytest.raises(MlepiError, match=r"mlepi inspect: got exit status \d: .*(such|mostly)"):
        run_line(line)
