"""The search that a model takes."""

import torch

from espnet2_kd.asr.cif_search import CIFSearch
from espnet2_kd.asr.predictor import Predictor
from espnet2_kd.asr.transducer_search import BeamSearch, GreedySearch

SEARCHES = ("greedy", "beam")
Search = GreedySearch | BeamSearch | CIFSearch


def build_search(
    model: torch.nn.Module,
    search: str = "greedy",
    beam_size: int = 4,
    max_symbols: int | None = None,
    lm: torch.nn.Module | None = None,
    lm_weight: float = 0.0,
) -> Search:
    """Return the search of a decoding configuration for a transducer or a ``CIFASRModel``.

    Raises:
        ValueError: unknown search, a model that is neither, or a setting that this model has no use for.
    """
    if search not in SEARCHES:
        raise ValueError(f"search: {search!r} is unknown, choose greedy or beam")
    if hasattr(model, "cif"):
        if max_symbols is not None:
            raise ValueError("max_symbols: a CIF model has one label for each token: leave it out")
        return CIFSearch(model, 1 if search == "greedy" else beam_size, lm, lm_weight)
    if getattr(model, "joint_network", None) is None:
        raise ValueError(
            "the model is neither a transducer (`decoder: transducer`) nor a CIF recogniser (`model: cif`): no search here decodes it"
        )
    if lm is not None:
        raise ValueError("lm: transducer search has no language model: leave it out")
    predictor = Predictor(model.decoder, model.joint_network, model.blank_id)
    max_symbols = 3 if max_symbols is None else max_symbols
    if search == "greedy":
        return GreedySearch(predictor, max_symbols)
    return BeamSearch(predictor, beam_size, max_symbols)
