"""Numbers from captions: encoders that are fitted or fetched once and frozen, saved without pickle beside a run."""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ganforge.errors import RequestError
from ganforge.files import atomic_write

_WORDS = 10_000  # words and pairs of words that are told apart, the most frequent
_LEARNT = 50_000  # captions that words and directions are learnt from; more change little and take minutes
_CHUNK = 16_384  # captions that are counted at a time
_BATCH = 64  # captions that a language model reads at a time
# Chinese has no spaces, so each of its characters is a word; otherwise words are as \w has them, digits and single letters included.
_WORD = r"(?u)[\u3400-\u9fff]|[^\W\u3400-\u9fff]+"


class TextEncoder(ABC):
    """From sentences to vectors of unit length; a sentence of which nothing is known is the zero vector."""

    name: str
    """As `--text-encoder` names it."""
    dimension: int

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[len(texts), dimension]; each row depends on its own sentence alone."""

    def unknown(self, text: str) -> list[str]:  # noqa: ARG002
        """The words of a text that were in no caption; none where every text is understood somehow."""
        return []

    @abstractmethod
    def save(self, path: Path) -> None:
        """Writes all that `load_encoder` needs, a safetensors file, atomically."""


class Tfidf(TextEncoder):
    """Words and pairs of words, weighted by how rare they are, projected on the directions in which the captions vary most.

    TF-IDF with latent semantic analysis (Deerwester et al., 1990): scikit-learn's TfidfVectorizer and TruncatedSVD, whose seed is
    fixed. The dimension is the one asked for, or fewer where the captions have fewer distinct words.
    """

    name = "tfidf"

    def __init__(self, vocabulary: Sequence[str], rarity: NDArray[np.float64], directions: NDArray[np.float64]) -> None:
        # Here and not above: scikit-learn costs half a second, which only those who read captions should pay.
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.vocabulary = list(vocabulary)
        self.rarity = rarity
        self.directions = directions
        self.dimension = len(directions)
        self._counter = TfidfVectorizer(token_pattern=_WORD, ngram_range=(1, 2), vocabulary=self.vocabulary)
        self._counter.idf_ = rarity

    @classmethod
    def fit(cls, captions: Sequence[str], dimension: int) -> Tfidf:
        """Learns words, weights and directions of `captions` (of many, 50,000 spread evenly); RequestError where they have no word."""
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        counter = TfidfVectorizer(token_pattern=_WORD, ngram_range=(1, 2), max_features=_WORDS)
        try:
            weights = counter.fit_transform(captions[:: math.ceil(len(captions) / _LEARNT) or 1])
        except ValueError:
            raise RequestError(f"the {len(captions)} captions hold no word, e.g. {captions[0]!r}" if captions else "no caption") from None
        if weights.shape[1] == 1:
            # A single word has a single direction; TruncatedSVD wants two words.
            return cls(counter.get_feature_names_out().tolist(), counter.idf_, np.ones((1, 1)))
        with np.errstate(invalid="ignore"):  # of a single caption no share of the variance can be told, and none is needed
            reduced = TruncatedSVD(min(dimension, *weights.shape), random_state=0).fit(weights)
        # Directions that carry nothing (fewer kinds of captions than dimensions) would be rounding errors blown up.
        kept = reduced.singular_values_ > 1e-9 * reduced.singular_values_[0]
        return cls(counter.get_feature_names_out().tolist(), counter.idf_, np.ascontiguousarray(reduced.components_[kept]))

    def unknown(self, text: str) -> list[str]:
        """The words that are not in the vocabulary, each once."""
        known = set(self.vocabulary)
        words = dict.fromkeys(re.findall(_WORD, text.lower()))
        return [word for word in words if word not in known]

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Counted, weighted, projected and brought to unit length."""
        found = [np.zeros((0, self.dimension), np.float32)]
        for start in range(0, len(texts), _CHUNK):
            found.append(_unit(self._counter.transform(texts[start : start + _CHUNK]) @ self.directions.T))
        return np.concatenate(found)

    def save(self, path: Path) -> None:
        """The vocabulary is JSON in the file's metadata."""
        about = {"encoder": self.name, "vocabulary": json.dumps(self.vocabulary, ensure_ascii=False)}
        with atomic_write(path) as temporary:
            save_file({"rarity": self.rarity, "directions": self.directions}, temporary, about)


class HuggingFace(TextEncoder):
    """The mean of a language model's last hidden states over the words of a caption; `hf:NAME`, a model of the hub or a folder."""

    def __init__(self, model: str) -> None:
        try:
            # An extra, and seconds to import.
            transformers: Any = import_module("transformers")
        except ImportError:
            raise RequestError(f"--text-encoder hf:{model}: needs the extra `text`: pip install 'ganforge[text]'") from None
        try:
            # A run that a stranger published may name the model: none of its code is run, and nobody asked whether it may.
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(model, trust_remote_code=False)
            self._model = transformers.AutoModel.from_pretrained(model, trust_remote_code=False).eval()
        except (OSError, ValueError, KeyError) as error:
            raise RequestError(f"--text-encoder hf:{model}: cannot be loaded ({str(error).strip().partition(chr(10))[0]})") from None
        self.name = f"hf:{model}"
        self.dimension = int(self._model.config.hidden_size)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """On the CPU, a few dozen captions at a time; words beyond the model's length are cut off."""
        import torch

        found = [np.zeros((0, self.dimension), np.float32)]
        with torch.no_grad():
            for start in range(0, len(texts), _BATCH):
                read = self._tokenizer(list(texts[start : start + _BATCH]), padding=True, truncation=True, return_tensors="pt")
                hidden = self._model(**read).last_hidden_state.float()
                present = read["attention_mask"][..., None].float()
                mean = (hidden * present).sum(dim=1) / present.sum(dim=1).clamp_min(1)
                found.append(_unit(mean.numpy()))
        return np.concatenate(found)

    def save(self, path: Path) -> None:
        """Only its name: the model itself stays where it came from."""
        with atomic_write(path) as temporary:
            save_file({}, temporary, {"encoder": self.name})


def fit_encoder(name: str, captions: Sequence[str], dimension: int) -> TextEncoder:
    """The encoder of this name, `tfidf` (fitted on `captions`) or `hf:NAME`; RequestError for any other."""
    if name == "tfidf":
        return Tfidf.fit(captions, dimension)
    if name.startswith("hf:") and len(name) > 3:
        return HuggingFace(name[3:])
    raise RequestError(f"--text-encoder {name}: unknown; there are tfidf, and hf:NAME of a Hugging Face model")


def load_encoder(path: Path) -> TextEncoder:
    """The encoder that `save` wrote; RequestError where the file is none: a stranger may have written it."""
    try:
        if path.exists() and not path.is_file():
            raise OSError("not a regular file")
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no mapping
        if about["encoder"] == "tfidf":
            return _stored(json.loads(about["vocabulary"]), tensors["rarity"], tensors["directions"])
        return fit_encoder(about["encoder"], (), 0)
    except RequestError:
        raise
    except (OSError, KeyError, TypeError, ValueError, RecursionError, SafetensorError) as error:
        raise RequestError(f"{path}: holds no text encoder ({str(error).partition(chr(10))[0][:200]})") from None


def _stored(vocabulary: object, rarity: NDArray[np.float64], directions: NDArray[np.float64]) -> Tfidf:
    if not isinstance(vocabulary, list) or not all(isinstance(word, str) for word in vocabulary):
        raise ValueError("its vocabulary is no list of words")
    words = len(set(vocabulary))
    if words < len(vocabulary) or rarity.shape != (words,) or directions.ndim != 2 or directions.shape[1] != words:
        raise ValueError(f"{len(vocabulary)} words, with weights {list(rarity.shape)} and directions {list(directions.shape)}")
    if not all(each.dtype == np.float64 and np.isfinite(each).all() for each in (rarity, directions)):
        raise ValueError("its weights and directions are no finite float64")
    return Tfidf(vocabulary, rarity, directions)


def _unit(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (rows / np.where(norms > 1e-12, norms, 1)).astype(np.float32)
    return unit
