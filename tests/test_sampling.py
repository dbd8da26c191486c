"""The sample of tasks stands for all 130."""

import re
from pathlib import Path

import pytest
from compiling import QUICKLY
from sampling import UNIT, sample, sampled

from rlgen.libero.tasks.suites import Task, all_tasks


def features(task: Task) -> set[str]:
    """Returns what occurs in a task: suite, room, classes of objects and fixtures, the goal's predicates."""
    text = task.bddl_file.read_text()
    _, _, goal = text.partition("(:goal")
    predicates = [word.lower() for word in re.findall(r"\((\w+) [\w ]+\)", goal)]
    blocks = re.findall(r"\(:(?:objects|fixtures)(.*?)\)", text, re.DOTALL)
    classes = [name for block in blocks for name in re.findall(r"-\s+(\w+)", block)]
    [room] = re.findall(r"\(problem (\w+)\)", text)
    return {task.suite, room, f"{len(predicates)} atoms", *classes, *predicates}


def test_what_occurs_in_any_task_occurs_in_the_sample():
    missing = set.union(*map(features, all_tasks())) - set.union(*map(features, sample()))
    assert not missing


def test_all_tasks_are_parameters_and_the_sample_is_not_slow():
    parameters = sampled()
    assert [parameter.values[0] for parameter in parameters] == list(all_tasks())
    assert {parameter.values[0] for parameter in parameters if not parameter.marks} == set(sample())


@pytest.mark.parametrize("name", [*UNIT, *QUICKLY])
def test_what_is_chosen_by_its_name_is_there(name):
    assert (Path(__file__).parent / name).exists()
