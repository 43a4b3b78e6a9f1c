"""What is asked of every finding of `ems doctor`."""

from agent.core.checkup import Grade


def named_graded_and_with_a_next_step(found, grade, words):
    """True, or fails with what is missing."""
    assert found.grade is grade
    assert words in found.text
    return found.todo or grade not in {Grade.WARNING, Grade.FAILED}
