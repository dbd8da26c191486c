import numpy as np
import pytest
from vla import openpi

from rlgen.vla.tokens import BEGIN, NEWLINE, hashed_words, tokenize


def byte_encoder(text: str, begin: bool) -> list[int]:
    return [2] * begin + [3 + byte for byte in text.encode()]


def test_prompts_are_put_together_as_the_references():
    cases = [c for c in openpi.description("prompts")["strings"] if c["format"].startswith("pi0 ")]
    for case in cases:
        calls = []
        tokenize(case["prompt_in"], lambda text, begin, calls=calls: calls.append([text, begin]) or [], 4)
        assert calls == case["encode_calls"]
    assert len(cases) == 3


def test_padding_and_cutting_are_the_references():
    cases = [c for c in openpi.description("prompts")["padding_and_truncation"]["cases"] if not c["with_state"]]
    for case in cases:
        ids, mask = tokenize(case["prompt_in"], byte_encoder, case["max_len"])
        np.testing.assert_array_equal(ids, case["tokens"])
        np.testing.assert_array_equal(mask, case["mask"])
    assert cases


def test_hashed_words_tell_instructions_apart_and_stay_the_same():
    encode = hashed_words(2048)
    words = [556, 1998, 111, 1534]
    ids, mask = tokenize("pick_up_the_butter", encode, 8)
    assert ids.tolist() == [BEGIN, *words, NEWLINE, 0, 0]
    assert mask.tolist() == [True] * 6 + [False] * 2
    assert tokenize("Pick up the butter ", encode, 8)[0].tolist() == ids.tolist()
    assert tokenize("pick up the milk", encode, 8)[0].tolist() != ids.tolist()
    assert max(encode("a few other words to be hashed into few ids", False)) < 2048


def test_a_vocabulary_without_room_for_words_is_refused():
    with pytest.raises(ValueError, match="vocabulary 3"):
        hashed_words(3)
