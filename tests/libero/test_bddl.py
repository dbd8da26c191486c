import pytest

from rlgen.core.errors import UserError
from rlgen.libero.tasks.bddl import parse, read_problem
from rlgen.libero.tasks.suites import all_tasks, find_task


def test_a_task_file_has_objects_fixtures_and_goal():
    problem = read_problem(find_task("libero_10/9").bddl_file)
    assert problem.objects == ("porcelain_mug_1", "white_yellow_mug_1")
    assert problem.fixtures == ("kitchen_table", "microwave_1")
    assert problem.goal == (
        ("In", "white_yellow_mug_1", "microwave_1_heating_region"),
        ("Close", "microwave_1"),
    )
    assert ("Open", "microwave_1") in problem.initial


def test_the_goals_of_all_tasks_are_counted_as_published():
    kinds = [atom[0].lower() for task in all_tasks() for atom in read_problem(task.bddl_file).goal]
    counts = {kind: kinds.count(kind) for kind in set(kinds)}
    assert counts == {"in": 63, "on": 61, "close": 11, "turnon": 8, "open": 7, "turnoff": 1}


@pytest.mark.parametrize("text", ["", "(a", "a)", "(a) (b)", "word"])
def test_text_that_is_not_one_expression_is_refused(text):
    with pytest.raises(ValueError, match="parenthes"):
        parse(text)


def test_comments_are_dropped():
    assert parse("(a ; (b\n (c d))") == ["a", ["c", "d"]]


def test_a_file_without_a_goal_is_refused(tmp_path):
    path = tmp_path / "task.bddl"
    path.write_text("(define (problem x) (:objects a_1 - a))")
    with pytest.raises(UserError, match=r"task\.bddl cannot be read as BDDL"):
        read_problem(path)
