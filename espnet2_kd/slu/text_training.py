"""Fine-tuning of a text encoder on intents: resumable after every epoch, the best of which on the validation set is kept."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from espnet2_kd.data.damage import UNREADABLE
from espnet2_kd.data.download import file_sha256
from espnet2_kd.data.parts import fingerprint
from espnet2_kd.data.problems import first_line
from espnet2_kd.data.table import replacing
from espnet2_kd.kd.registry import ConfigError
from espnet2_kd.kd.teachers.hub import VOCABULARY, WEIGHTS, model_files
from espnet2_kd.slu.text_model import DESCRIPTION, TextIntentModel
from espnet2_kd.slu.text_options import TextOptions
from espnet2_kd.slu.text_sentences import Sentence, pieces_of

# Names that no training of ESPnet2 uses, should the folder be one of those.
RECORD, CHECKPOINT, BEST = "train.json", "text_checkpoint.pth", "text_epoch"


@dataclass(frozen=True)
class Example:
    """Word pieces of a sentence and, of each slot, the place of the right class in it."""

    ids: list[int]
    places: list[int]


def train_text_model(
    source: str,
    classes: Sequence[str],
    train: Sequence[Sentence],
    valid: Sequence[Sentence],
    options: TextOptions,
    folder: str | Path,
    device: str = "cpu",
    notes: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Fine-tune an encoder, save the best epoch's model in `folder`, and return what `train.json` there says.

    Going on after an interruption gives the same model as never having stopped; on a GPU up to its own rounding. A training
    that has ended is left as it is.

    Args:
        source: directory of the encoder, or its name on the hub.
        notes: goes into `train.json`.
        say: told one line per epoch.

    Raises:
        ConfigError: unusable encoder or checkpoint, a `folder` of another training, a loss that is no number.
        DataError: sentences that are longer than the encoder reads.
    """
    folder = Path(folder)
    inputs = {"options": asdict(options), "made_from": _made_from(source, classes, train, valid)}
    earlier = _earlier(folder, inputs)
    if earlier.get("finished") and (folder / DESCRIPTION).exists():
        _drop_checkpoints(folder)
        say(f"{folder}: already trained, {_summary(earlier)}")
        return earlier
    torch.manual_seed(options.seed)
    model = TextIntentModel.from_encoder(source, classes, options.pooling, options.dropout_rate).to(device)
    training = TextTraining(model, options, _examples(model, train), _examples(model, valid))
    record: dict[str, Any] = {
        **inputs,
        "source": model.source,
        "num_train": len(train),
        "num_valid": len(valid),
        "num_classes": len(classes),
        "num_parameters": sum(p.numel() for p in model.parameters()),
        **(notes or {}),
    }
    if training.resume(folder):
        say(f"{folder}: going on after epoch {len(training.epochs)}")
    while not training.ended:
        _write_record(folder, record, training)
        training.run_epoch()
        training.keep(folder)
        say(training.line())
    training.load_best(folder)
    model.save(folder)
    record = _write_record(folder, record, training, finished=True)
    _drop_checkpoints(folder)
    say(f"{folder}: {_summary(record)}")
    return record


class TextTraining:
    """A model in training: what an epoch does, and what is kept after each.

    Attributes:
        epochs: of every epoch so far its number, losses per sentence, accuracy on the validation set, and seconds.
    """

    def __init__(
        self, model: TextIntentModel, options: TextOptions, train: Sequence[Example], valid: Sequence[Example]
    ) -> None:
        self.model, self.options, self.train, self.valid = model, options, list(train), list(valid)
        self.epochs: list[dict[str, Any]] = []
        # Norms and biases are meant to be what they are, so only matrices decay (Devlin et al., 2019).
        groups = {True: [], False: []}
        for parameter in model.parameters():
            groups[parameter.dim() > 1].append(parameter)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": groups[True], "weight_decay": options.weight_decay},
                {"params": groups[False], "weight_decay": 0.0},
            ],
            lr=options.lr,
        )

    @property
    def best(self) -> dict[str, Any]:
        """The epoch of the highest accuracy; of equal ones that of the lowest loss, both on the validation set."""
        return max(self.epochs, key=lambda epoch: (epoch["valid_accuracy"], -epoch["valid_loss"]))

    @property
    def ended(self) -> bool:
        """Whether all epochs are over, or too many without a better one."""
        if not self.epochs:
            return False
        waited = len(self.epochs) - self.best["epoch"]
        return len(self.epochs) >= self.options.max_epoch or 0 < self.options.patience <= waited

    def line(self) -> str:
        """What happened in the last epoch."""
        last = self.epochs[-1]
        best = ", best so far" if self.best is last else ""
        return (
            f"epoch {last['epoch']}/{self.options.max_epoch}: loss {last['loss']:.4f}, valid loss {last['valid_loss']:.4f}, "
            f"valid accuracy {last['valid_accuracy']:.4f}{best}"
        )

    def run_epoch(self) -> None:
        """Train on every sentence once, then validate; raises ConfigError for a loss that is no number."""
        started, epoch = time.monotonic(), len(self.epochs) + 1
        # Drawn from the epoch's number, so that nothing but weights must be kept to go on as if nothing had happened.
        rng = random.Random(f"{self.options.seed} {epoch}")
        torch.manual_seed(rng.getrandbits(63))
        batches = by_length([len(example.ids) for example in self.train], self.options.batch_size, rng)
        num_steps = self.options.max_epoch * len(batches)
        self.model.train()
        total = 0.0
        for step, batch in enumerate(batches, (epoch - 1) * len(batches) + 1):
            losses = self._losses([self.train[n] for n in batch])[0]
            loss = losses.mean()
            if not loss.isfinite():
                raise ConfigError(f"epoch {epoch}: the loss is {loss.item()}: lower --lr, now {self.options.lr}")
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)
            for group in self.optimizer.param_groups:
                group["lr"] = self.options.lr * rate_factor(step, num_steps, self.options.warmup_ratio)
            self.optimizer.step()
            total += float(losses.detach().sum())
        valid_loss, accuracy = self.validate()
        self.epochs.append(
            {
                "epoch": epoch,
                "loss": total / len(self.train),
                "valid_loss": valid_loss,
                "valid_accuracy": accuracy,
                "seconds": round(time.monotonic() - started, 1),
            }
        )

    @torch.no_grad()
    def validate(self) -> tuple[float, float]:
        """Loss per sentence, and the share of sentences (0 to 1) of which every slot is right."""
        self.model.eval()
        total, right = 0.0, 0
        for batch in by_length([len(example.ids) for example in self.valid], self.options.batch_size):
            losses, logits, places = self._losses([self.valid[n] for n in batch])
            total += float(losses.sum())
            right += int((self.model.choices(logits)[0] == places).all(1).sum())
        return total / len(self.valid), right / len(self.valid)

    def _losses(self, batch: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
        """Losses (B,), logits (B, V), places of the right classes (B, S)."""
        ids, lens = self.model.pad([example.ids for example in batch])
        places = torch.tensor([example.places for example in batch], device=ids.device)
        logits = self.model(ids, lens)
        return self.model.losses(logits, places), logits, places

    def keep(self, folder: Path) -> None:
        """Write what going on needs: first the weights of a new best epoch, then the checkpoint that names it."""
        if self.best is self.epochs[-1]:
            _write_state(_best_file(folder, self.best), self.model.state_dict())
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epochs": self.epochs,
        }
        _write_state(folder / CHECKPOINT, state)
        _drop_epochs(folder, but=_best_file(folder, self.best))

    def resume(self, folder: Path) -> bool:
        """Take over what `keep` wrote; False where there is nothing."""
        if not (folder / CHECKPOINT).exists():
            return False
        state = _read_state(folder / CHECKPOINT)
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.epochs = list(state["epochs"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            what = f"is no checkpoint of this training ({first_line(error)})"
            raise ConfigError(f"{folder / CHECKPOINT}: {what}: remove it to begin again") from error
        return True

    def load_best(self, folder: Path) -> None:
        """Go back to the weights of the best epoch."""
        self.model.load_state_dict(_read_state(_best_file(folder, self.best)))


def rate_factor(step: int, num_steps: int, warmup_ratio: float) -> float:
    """Share of the rate at `step`, 1 to `num_steps`: rises to 1, then falls and would be 0 one step after the last."""
    warmup = max(1, round(warmup_ratio * num_steps))
    return step / warmup if step <= warmup else (num_steps + 1 - step) / (num_steps + 1 - warmup)


def by_length(lens: Sequence[int], batch_size: int, rng: random.Random | None = None) -> list[list[int]]:
    """Indices in batches of about equal length; with `rng` in an order, and among equal lengths a company, of its choice."""
    order = list(range(len(lens)))
    if rng is not None:
        rng.shuffle(order)
    order.sort(key=lens.__getitem__)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if rng is not None:
        rng.shuffle(batches)
    return batches


def _examples(model: TextIntentModel, sentences: Sequence[Sentence]) -> list[Example]:
    rows = pieces_of(model, sentences)
    return [Example(row, model.places(s.classes)) for row, s in zip(rows, sentences, strict=True)]


def _made_from(source: str, classes: Sequence[str], *sets: Sequence[Sentence]) -> str:
    files = {path.name: file_sha256(path) for path in model_files(source, (*WEIGHTS, *VOCABULARY))}
    return fingerprint(files, list(classes), [[(s.text, s.classes) for s in part] for part in sets])


def _earlier(folder: Path, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What `train.json` says of an earlier run; raises ConfigError where that was another training."""
    path = folder / RECORD
    if not path.exists():
        if (folder / CHECKPOINT).exists():
            raise ConfigError(
                f"{folder}: has {CHECKPOINT}, but no {RECORD} that says of what: choose another --output_dir"
            )
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        options, made_from = dict(record["options"]), record["made_from"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: is damaged ({error}): remove {folder} to train again") from error
    now = inputs["options"]
    other = [f"{name} {options.get(name)}, now {now[name]}" for name in now if options.get(name) != now[name]]
    if not other and made_from != inputs["made_from"]:
        other = ["other sentences, classes or encoder"]
    if other:
        raise ConfigError(f"{folder}: holds another training ({'; '.join(other)}): choose another --output_dir")
    return record


def _write_record(
    folder: Path, record: Mapping[str, Any], training: TextTraining, finished: bool = False
) -> dict[str, Any]:
    best = training.best["epoch"] if training.epochs else None
    record = {**record, "epochs": training.epochs, "best_epoch": best, "finished": finished}
    with replacing(folder / RECORD) as stream:
        json.dump(record, stream, indent=1)
        stream.write("\n")
    return record


def _summary(record: Mapping[str, Any]) -> str:
    best = next(epoch for epoch in record["epochs"] if epoch["epoch"] == record["best_epoch"])
    return (
        f"valid accuracy {best['valid_accuracy']:.4f} in epoch {best['epoch']}, the best of {len(record['epochs'])}, "
        f"with {record['num_train']} training sentences"
    )


def _best_file(folder: Path, epoch: Mapping[str, Any]) -> Path:
    return folder / f"{BEST}{epoch['epoch']}.pth"


def _write_state(path: Path, state: Mapping[str, Any]) -> None:
    with replacing(path, "wb") as stream:
        torch.save(state, stream)


def _read_state(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        what = f"is missing or damaged ({first_line(error)})"
        raise ConfigError(f"{path}: {what}: remove {path.parent} to train again") from error


def _drop_epochs(folder: Path, but: Path | None = None) -> None:
    for path in folder.glob(f"{BEST}*.pth"):
        if path != but:
            path.unlink()


def _drop_checkpoints(folder: Path) -> None:
    (folder / CHECKPOINT).unlink(missing_ok=True)
    _drop_epochs(folder)
    # Of a run that was killed while it wrote.
    for path in folder.glob(".text_*.pth*.tmp"):
        path.unlink()
