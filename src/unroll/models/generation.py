"""Texts from a pretrained language model, a token at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from unroll.core.errors import UnrollError, brief
from unroll.models.bundle import Bundle, load_bundle
from unroll.models.language_model import PROJECTIONS, LanguageModel
from unroll.models.span_classifier import CELLS


@dataclass(frozen=True)
class Generator:
    """The forward direction of a pretrained model, and its prediction of the next token."""

    bundle: Bundle
    language_model: LanguageModel

    def generate(
        self, begin: Sequence[str], end: str, most: int, temperature: float, seed: int, never: Sequence[str] = ()
    ) -> list[str]:
        """Return the tokens that follow `begin`, each drawn by its probability, until `end` or `most` of them.

        Args:
            begin: tokens to continue, at least one; those that the model does not know are read as unknown.
            end: the token at which a text ends; it is not returned.
            most: tokens to generate.
            temperature: by which logits are divided: below 1 likely tokens become likelier.
            seed: of the draws.
            never: tokens that do not come.
        """
        source = self.bundle.model.recurrent
        layer = CELLS[self.bundle.cell](source.input_size, source.hidden_size, batch_first=True)
        layer.load_state_dict({name: each for name, each in source.state_dict().items() if name.endswith("_l0")})
        draws = torch.Generator().manual_seed(seed)
        banned = self.bundle.vocabulary.encode(list(never)).tolist()
        ids, state, found = self.bundle.vocabulary.encode(list(begin)).tolist(), None, list[str]()
        with torch.inference_mode():
            while len(found) < most:
                inputs = self.bundle.model.embed(torch.tensor([ids]))  # (1, T, E)
                hidden, state = layer(inputs, state)
                logits = self.language_model.logits(self.language_model.projections[0](hidden[:, -1]))[0]  # (V,)
                logits[banned] = float("-inf")
                ids = torch.multinomial((logits / temperature).softmax(0), 1, generator=draws).tolist()
                token = self.bundle.vocabulary.tokens[ids[0]]
                if token == end:
                    break
                found.append(token)
        return found


def load_generator(folder: Path) -> Generator:
    """Load a pretrained model.

    Raises:
        UnrollError: a file is missing or damaged, or the model has several layers.
    """
    bundle = load_bundle(folder)
    if bundle.shape.layers > 1:
        raise UnrollError(f"{folder}: a model of {bundle.shape.layers} layers; only those of one layer can generate")
    language_model = LanguageModel(bundle.model, torch.ones(len(bundle.vocabulary)))
    try:
        language_model.load_state_dict(load_file(folder / PROJECTIONS))
    except FileNotFoundError:
        raise UnrollError(f"{folder / PROJECTIONS}: no such file; run `dvc repro`") from None
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UnrollError(f"{folder / PROJECTIONS}: damaged ({brief(error)}); run `dvc repro`") from None
    return Generator(bundle, language_model)
