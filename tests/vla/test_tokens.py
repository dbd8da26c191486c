import io

import numpy as np
import pytest

from rlgen.core.errors import UserError
from rlgen.libero.tasks.suites import all_tasks
from rlgen.vla.data.tokens import BOS, NEWLINE, describe_cut, hashed_words, sentencepiece, tokenize
from rlgen.vla.model.presets import preset


def test_hashed_words_distinguish_instructions_and_stay_the_same():
    encode = hashed_words(2048)
    hashes = [556, 1998, 111, 1534]
    ids, mask = tokenize("pick_up_the_butter", encode, 8)
    assert ids.tolist() == [BOS, *hashes, NEWLINE, 0, 0]
    assert mask.tolist() == [True] * 6 + [False] * 2
    assert tokenize("Pick up the butter ", encode, 8)[0].tolist() == ids.tolist()
    assert tokenize("pick up the milk", encode, 8)[0].tolist() != ids.tolist()
    assert max(encode("a few other words to be hashed into few ids", False)) < 2048


def test_a_vocabulary_without_room_for_words_is_refused():
    with pytest.raises(ValueError, match="vocabulary 3"):
        hashed_words(3)


def test_prompts_that_are_cut_are_counted():
    prompts, encode, model = sorted({task.prompt for task in all_tasks()}), hashed_words(2048), preset("small")
    line = describe_cut(prompts, encode, model.prompt_length)
    # The beginning and the end are a token each.
    assert sum(len(prompt.split()) + 2 > 16 for prompt in prompts) == 14
    assert line.startswith("14 of 112 instructions are longer than the 16 tokens") and "\n" not in line
    assert describe_cut([p for p in prompts if len(p.split()) <= 14], encode, model.prompt_length) is None
    with_state = describe_cut(["open the drawer"], encode, 11, np.zeros(8))
    assert with_state is not None and describe_cut(["open the drawer"], encode, 20, np.zeros(8)) is None


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Trains a small SentencePiece model with PaliGemma's special ids: pad 0, EOS 1, BOS 2, unknown 3."""
    from sentencepiece import SentencePieceTrainer

    text, out = ["pick up the red block", "place it in the basket", "open the top drawer"] * 20, io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(text), model_writer=out, vocab_size=29, pad_id=0, eos_id=1, bos_id=2, unk_id=3,
        minloglevel=2,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("tokens") / "tokenizer.model"
    path.write_bytes(out.getvalue())
    return path


def test_a_sentencepiece_model_splits_text_as_it_was_trained(trained):
    from sentencepiece import SentencePieceProcessor

    encode, theirs = sentencepiece(trained, 512), SentencePieceProcessor(str(trained))
    assert encode("open the drawer", True) == [2, *theirs.encode("open the drawer")]
    assert encode("open the drawer", False) == theirs.encode("open the drawer")
    assert theirs.decode(encode("pick up the red block", False)) == "pick up the red block"
    ids, mask = tokenize("open the drawer", encode, 30)
    assert ids[0] == 2 and ids[~mask].tolist() == [0] * (~mask).sum()


def test_a_tokenizer_that_does_not_fit_is_refused(trained, tmp_path):
    with pytest.raises(UserError, match=r"has 29 ids, the model 28"):
        sentencepiece(trained, 28)
    with pytest.raises(UserError, match="not a readable SentencePiece model"):
        sentencepiece(tmp_path / "none", 512)
    (tmp_path / "bad").write_bytes(b"no model")
    with pytest.raises(UserError, match="not a readable SentencePiece model"):
        sentencepiece(tmp_path / "bad", 512)
