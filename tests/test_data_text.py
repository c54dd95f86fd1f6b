"""Text encoders: vectors that mean something, survive their file bit for bit, and depend on their own sentence alone."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ganforge.data.text import Tfidf, fit_encoder, load_encoder
from ganforge.errors import RequestError

COLOURS, THINGS = ("red", "green", "blue"), ("bird", "car", "flower", "house")
CAPTIONS = [f"a {colour} {thing} in the {place}" for colour in COLOURS for thing in THINGS for place in ("sun", "rain")]


@pytest.fixture(scope="module")
def encoder() -> Tfidf:
    return Tfidf.fit(CAPTIONS, 8)


def test_vectors_have_unit_length_and_the_dimension_asked_for(encoder: Tfidf) -> None:
    vectors = encoder.encode(CAPTIONS)
    assert vectors.shape == (len(CAPTIONS), 8) == (len(CAPTIONS), encoder.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_what_shares_more_words_is_nearer(encoder: Tfidf) -> None:
    asked, colour, thing, neither = encoder.encode(["a red bird", "a red car", "a blue bird", "a green house"])
    assert asked @ colour > asked @ neither + 0.2
    assert asked @ thing > asked @ neither + 0.2


def test_without_loss_of_dimensions_the_product_is_the_cosine_of_weighted_words() -> None:
    # Words in all captions weigh idf = 1, the others ln(4 / 2) + 1: with every direction kept, projection changes no product.
    every = Tfidf.fit(["x red", "x blue", "y"], 100)
    rarity = {"x": np.log(4 / 3) + 1, "red": np.log(4 / 2) + 1, "x red": np.log(4 / 2) + 1}
    shared = rarity["x"] ** 2 / (rarity["x"] ** 2 + rarity["red"] ** 2 + rarity["x red"] ** 2)
    red, blue = every.encode(["x red", "x blue"])
    assert red @ blue == pytest.approx(shared, abs=1e-6)


def test_each_vector_depends_on_its_own_sentence_alone(encoder: Tfidf) -> None:
    whole = encoder.encode(CAPTIONS)
    assert all((encoder.encode([caption])[0] == whole[number]).all() for number, caption in enumerate(CAPTIONS))
    assert encoder.encode([]).shape == (0, 8)


def test_a_sentence_of_unknown_words_is_the_zero_vector(encoder: Tfidf) -> None:
    assert not encoder.encode(["zebra", "", "!?"]).any()


def test_case_and_punctuation_do_not_matter_and_the_order_of_learning_neither(encoder: Tfidf) -> None:
    assert (encoder.encode(["A RED, bird!"]) == encoder.encode(["a red bird"])).all()
    forth, back = Tfidf.fit(CAPTIONS, 100).encode(CAPTIONS), Tfidf.fit(CAPTIONS[::-1], 100).encode(CAPTIONS)
    np.testing.assert_allclose(back @ back.T, forth @ forth.T, atol=1e-5)


def test_fewer_kinds_of_captions_than_dimensions_give_fewer_dimensions() -> None:
    few = Tfidf.fit(["a red bird", "a blue bird"] * 50, 128)
    assert few.dimension == 2
    red, blue = few.encode(["a red bird", "a blue bird"])
    assert red @ blue < 0.9


def test_chinese_captions_are_read_character_by_character() -> None:
    chinese = Tfidf.fit(["一只红色的鸟", "一只蓝色的鸟", "一辆红色的车", "一辆蓝色的车"], 4)
    bird, other_bird, car = chinese.encode(["红色的鸟", "蓝色的鸟", "蓝色的车"])
    assert bird @ other_bird > bird @ car


def test_a_saved_encoder_gives_the_same_bits(encoder: Tfidf, tmp_path: Path) -> None:
    encoder.save(tmp_path / "text.safetensors")
    read = load_encoder(tmp_path / "text.safetensors")
    unseen = [*CAPTIONS, "a red house and a blue car"]
    assert (read.encode(unseen) == encoder.encode(unseen)).all()
    assert (read.name, read.dimension) == ("tfidf", 8)


@pytest.mark.parametrize("content", [None, b"", b"no tensors", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_file_that_is_no_encoder_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "text.safetensors").write_bytes(content)
    with pytest.raises(RequestError, match=r"text\.safetensors: holds no text encoder") as caught:
        load_encoder(tmp_path / "text.safetensors")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("captions", [[], ["!", "..."]])
def test_captions_without_a_word_are_refused(captions: list[str]) -> None:
    with pytest.raises(RequestError, match=r"no word|no caption"):
        Tfidf.fit(captions, 4)


@pytest.mark.parametrize("name", ["bert", "hf:", ""])
def test_an_unknown_encoder_is_answered_with_those_there_are(name: str) -> None:
    with pytest.raises(RequestError, match=rf"--text-encoder {name}: unknown; there are tfidf, and hf:NAME"):
        fit_encoder(name, CAPTIONS, 4)


def test_a_language_model_without_its_package_is_answered_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(RequestError, match=r"hf:x: needs the extra `text`: pip install 'ganforge\[text\]'"):
        fit_encoder("hf:x", CAPTIONS, 4)


@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="the extra `text` (transformers) is not installed")
@pytest.mark.filterwarnings("ignore")
def test_a_language_models_vector_is_the_mean_over_its_words_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = importlib.import_module("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "blue", "bird"]
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    model = transformers.BertModel(transformers.BertConfig(vocab_size=len(words), **shape)).eval()
    model.save_pretrained(tmp_path)
    transformers.BertTokenizerFast(vocab={word: number for number, word in enumerate(words)}).save_pretrained(tmp_path)

    encoder = fit_encoder(f"hf:{tmp_path}", [], 0)
    long, short = encoder.encode(["a red bird", "bird"])
    numbers = torch.tensor([[2, words.index("bird"), 3]])
    with torch.no_grad():
        mean = model(numbers).last_hidden_state.mean(dim=1)[0]
    np.testing.assert_allclose(short, (mean / mean.norm()).numpy(), atol=1e-6)
    assert encoder.dimension == 16
    assert not np.allclose(long, short, atol=1e-2)
    encoder.save(tmp_path / "text.safetensors")
    assert (load_encoder(tmp_path / "text.safetensors").encode(["a red bird"]) == encoder.encode(["a red bird"])).all()
    with pytest.raises(RequestError, match="hf:/no/such/model: cannot be loaded"):
        fit_encoder("hf:/no/such/model", [], 0)
