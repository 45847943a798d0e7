"""Make ``import espnet2.tasks.*`` cheaper without changing what the imported code does."""

import contextlib
import functools
import importlib
import importlib.machinery
import importlib.util
import inspect
import io
import sys
from abc import ABCMeta
from collections.abc import Callable
from types import ModuleType
from typing import Any

import typeguard

# espnet2 imports g2p_en for every task; the package then loads nltk and inflect and tries to download two nltk
# archives. Only its G2p class is ever used, by the g2p_en token types. scipy.signal is for augmentation.
LAZY_MODULES = ("g2p_en", "scipy.signal")

# What every task offers as a choice and few configs name. These import transformers with all of torch's compiler, or
# scipy and numba, which takes longer than everything else together. With each its base, which the choices are checked for;
# functions have none.
LAZY_NAMES: dict[str, dict[str, str | None]] = {
    "espnet2.asr.decoder.hugging_face_transformers_decoder": {
        "HuggingFaceTransformersDecoder": "espnet2.asr.decoder.abs_decoder:AbsDecoder"
    },
    "espnet2.asr.encoder.beats_encoder": {"BeatsEncoder": "espnet2.asr.encoder.abs_encoder:AbsEncoder"},
    "espnet2.asr.frontend.huggingface": {"HuggingFaceFrontend": "espnet2.asr.frontend.abs_frontend:AbsFrontend"},
    "espnet2.asr.postencoder.hugging_face_transformers_postencoder": {
        "HuggingFaceTransformersPostEncoder": "espnet2.asr.postencoder.abs_postencoder:AbsPostEncoder"
    },
    "espnet2.gan_tts.jets.alignments": {"AlignmentModule": "torch.nn:Module"},
    "espnet2.layers.create_adapter": {"create_adapter": None},
    "espnet2.text.hugging_face_token_id_converter": {"HuggingFaceTokenIDConverter": "builtins:object"},
    "espnet2.text.hugging_face_tokenizer": {"HuggingFaceTokenizer": "espnet2.text.abs_tokenizer:AbsTokenizer"},
    "espnet2.text.qwen2audio_tokenizer": {"Qwen2AudioTokenizer": "espnet2.text.abs_tokenizer:AbsTokenizer"},
}

_check_now = typeguard.typechecked


def quick_import() -> None:
    """Postpone type-check instrumentation, ``g2p_en`` and ``LAZY_NAMES`` to first use; call before espnet2 is imported.

    typeguard parses and compiles the whole source file again for each of espnet2's 500 decorated functions. A process
    calls few of them, so each is instrumented when it is called for the first time: wrong types are still refused.
    Safe to call more than once.
    """
    typeguard.typechecked = typechecked_on_first_call
    for name in LAZY_MODULES:
        _import_lazily(name)
    for name, names in LAZY_NAMES.items():
        _import_lazily(name, names)


def import_attention() -> None:
    """Import espnet's attention without what it prints where there is no flash_attn: programs print their results there."""
    with contextlib.redirect_stdout(io.StringIO()):
        importlib.import_module("espnet.nets.pytorch_backend.transformer.attention")


def typechecked_on_first_call(target: Any = None, **options: Any) -> Any:
    """Do what ``typeguard.typechecked`` does, at the first call of the function.

    One difference: an annotation that names a local variable of an enclosing function is not checked. espnet2 has none.
    """
    if not inspect.isfunction(target) or options:
        return _check_now(target, **options)
    checked: Callable | None = None

    @functools.wraps(target)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked
        if checked is None:
            checked = _check_now(target)
        return checked(*args, **kwargs)

    return call


class _Deferred(ABCMeta):
    """Class that stands for one of a module that is not loaded yet: to make one of its instances, or to ask for its
    signature or anything else it has, loads the module. Is itself no more than a subclass of the right base.
    """

    _module: ModuleType

    def real(cls) -> type:
        """The class that it stands for."""
        return getattr(_load(cls._module), cls.__name__)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls.real()(*args, **kwargs)

    @property
    def __signature__(cls) -> inspect.Signature:
        return inspect.signature(cls.real())

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"class {cls.__name__!r} has no attribute {name!r}")
        return getattr(cls.real(), name)

    def __instancecheck__(cls, instance: Any) -> bool:
        return not _is_lazy(cls._module) and isinstance(instance, cls.real())

    def __subclasscheck__(cls, other: type) -> bool:
        return other is cls or (not _is_lazy(cls._module) and issubclass(other, cls.real()))


def _import_lazily(name: str, names: dict[str, str | None] | None = None) -> None:
    """Put a module into ``sys.modules`` that runs its own code when one of its names is asked for.

    names: classes, with the base of each, and functions, which are there at once and load the module when they are used.
    """
    if name in sys.modules:
        return
    spec = _find_spec(name)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)

    # importlib.util.LazyLoader would load on any attribute, and inspect.getmodule asks every module for __file__.
    def load_and_get(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
        return getattr(_load(module), attribute)

    module.__getattr__ = load_and_get
    for own, base in (names or {}).items():
        setattr(module, own, _deferred_function(module, own) if base is None else _deferred_class(module, own, base))
    sys.modules[name] = module


def _deferred_class(module: ModuleType, name: str, base: str) -> type:
    base_module, _, base_name = base.partition(":")
    bases = (getattr(importlib.import_module(base_module), base_name),)
    return _Deferred(name, bases, {"__module__": module.__name__, "_module": module})


def _deferred_function(module: ModuleType, name: str) -> Callable:
    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(_load(module), name)(*args, **kwargs)

    return call


def _find_spec(name: str) -> Any:
    """As `importlib.util.find_spec`, without importing the packages that the module lies in: theirs is the long way."""
    top, _, path = name.partition(".")
    spec = importlib.util.find_spec(top)
    for part in path.split(".") if path else ():
        if spec is None:
            return None
        top = f"{top}.{part}"
        spec = importlib.machinery.PathFinder.find_spec(top, spec.submodule_search_locations)
    return spec


def _is_lazy(module: ModuleType) -> bool:
    return "__getattr__" in vars(module)


def _load(module: ModuleType) -> ModuleType:
    if _is_lazy(module):
        del module.__getattr__
        module.__spec__.loader.exec_module(module)
    return module
