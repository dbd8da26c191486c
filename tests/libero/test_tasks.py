import pytest

from rlgen.core.errors import UserError
from rlgen.libero.tasks.suites import all_tasks, find_task, find_tasks


def test_the_benchmark_has_130_tasks_with_files():
    tasks = all_tasks()
    assert len(tasks) == 130
    assert [sum(t.suite == s for t in tasks) for s in ("libero_spatial", "libero_10", "libero_90")] == [
        10,
        10,
        90,
    ]
    assert all(t.bddl_file.is_file() and t.initial_states_file.is_file() for t in tasks)


def test_prompts_are_the_file_names():
    assert find_task("libero_object/6").prompt == "pick up the butter and place it in the basket"
    scene10 = [t for t in all_tasks() if "SCENE10" in t.name]
    assert scene10 and all(t.prompt[0].islower() and "SCENE" not in t.prompt for t in scene10)


@pytest.mark.parametrize(
    "text",
    [
        "libero_object/6",
        "libero_object/pick_up_the_butter_and_place_it_in_the_basket",
        "pick_up_the_butter_and_place_it_in_the_basket",
        "Pick up the butter and place it in the basket",
    ],
)
def test_a_task_is_found_by_id_name_and_instruction(text):
    assert (find_task(text).suite, find_task(text).index) == ("libero_object", 6)


def test_an_unknown_task_is_refused_with_similar_names():
    with pytest.raises(UserError, match=r"pick_up_the_buter.*nearest.*libero_object/pick_up_the_butter"):
        find_task("pick_up_the_buter_and_place_it_in_the_basket")


def test_similar_names_are_of_the_given_suite_even_for_the_beginning_of_a_name():
    with pytest.raises(
        UserError, match=r"nearest are: libero_object/pick_up_the_butter_and\S+, libero_object/\S+, libero_object"
    ):
        find_task("libero_object/pick_up_the_buter")


def test_a_part_of_several_names_is_not_unique():
    with pytest.raises(UserError, match="not unique"):
        find_task("black_bowl")


def test_suites_and_tasks_are_found_together_and_each_task_once():
    found = find_tasks("libero_goal/7", "libero_goal", "LIBERO_GOAL/7")
    assert found[0] == find_task("libero_goal/7") and len(found) == len(set(found)) == 10
    assert find_tasks("all") == list(all_tasks()) and find_tasks() == []
    with pytest.raises(UserError, match="is not unique"):
        find_tasks("libero_spatial", "the_black_bowl")
