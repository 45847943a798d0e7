"""Classes of intents, named ``slot=value``, and the slots in which they compete."""

from collections.abc import Sequence

from espnet2_kd.data.tokenizer import UNK


def slots_of(token_list: Sequence[str]) -> dict[str, list[int]]:
    """Slot -> ids of its classes, of a list of ``slot=value`` with ``<unk>`` at the end; raises ValueError for other names."""
    slots: dict[str, list[int]] = {}
    for number, token in enumerate(token_list):
        if token == UNK:
            continue
        slot, equals, value = token.partition("=")
        if not (slot and equals and value):
            raise ValueError(f"label {token!r}: classes are named slot=value, such as intent=play_music")
        slots.setdefault(slot, []).append(number)
    return slots
