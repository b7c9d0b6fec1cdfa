"""What a person can fix is one line; a bug stays a traceback."""

import errno

import pytest

from pipeline.base.errors import UserError, choose, for_people, listed


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UserError("no such image"), "error: no such image"),
        (
            OSError(errno.ENOSPC, "No space left on device", "data/x"),
            "error: data/x: No space left on device; free some space, then run it again: "
            "finished stages are kept",
        ),
        (
            RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
            "error: out of memory; free some memory, then run it again: finished stages are kept",
        ),
    ],
)
def test_what_a_person_can_fix_is_one_line(error: Exception, message: str) -> None:
    with pytest.raises(SystemExit) as exit_, for_people():
        raise error
    assert exit_.value.code == message


def test_ctrl_c_is_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_, for_people():
        raise KeyboardInterrupt
    assert exit_.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("x"), OSError(errno.ENOENT, "x")])
def test_a_bug_is_a_traceback(error: Exception) -> None:
    with pytest.raises(type(error)), for_people():
        raise error


def test_a_message_cannot_control_the_terminal() -> None:
    assert str(UserError("a\x1b[2J\r\u202eb, ü 花\n")) == "a\\x1b[2J\\r\\u202eb, ü 花\n"


def test_messages_list_what_there_is() -> None:
    with pytest.raises(UserError, match=r"export has no 'c'; it has a, b$"):
        choose({"a": 1, "b": 2}, "c", "export")
    assert listed([str(number) for number in range(12)]).endswith("'8', '9' and 2 more")
