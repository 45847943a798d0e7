"""Requests to a home assistant: templates, their expansion, and the split that keeps sentences apart."""

import hashlib
import itertools
import re
from collections.abc import Iterator

SPLITS = ("train", "valid", "test")

SLOTS = {
    "room": "kitchen|bedroom|bathroom|hall|garage|office|garden|living room|guest room",
    "room_air": "kitchen|bedroom|bathroom|office|living room|guest room",
    "lamp": "lights|lamp|ceiling light|reading lamp",
    "degrees": "sixteen|seventeen|eighteen|nineteen|twenty|twenty one|twenty two|twenty three",
    "count": "two|three|four|five|six|seven|eight|nine|ten|fifteen|twenty|thirty|forty five",
    "percent": "ten|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety",
    "clock": "five|six|seven|eight|nine|ten|half past six|half past seven|quarter past eight|quarter to nine",
    "day": "today|tomorrow|on monday|on tuesday|on wednesday|on thursday|on friday|at the weekend",
    "music": "jazz|rock|some piano music|my favourite songs|the news|some quiet music|the radio",
    "item": "milk|bread|butter|apples|coffee|rice|eggs|cheese|soap|tea",
    "amount": "two|three|four|five|six",
    "person": "anna|david|maria|peter|my mother|my brother|the doctor|the school",
    "event": "dinner with anna|lunch with peter|a meeting with david|the dentist|football|a phone call",
    "cover": "blinds|curtains|shutters",
    "polite": "please|now|right now",
}

TEMPLATES = {
    "light_on": [
        "[please] (turn|switch) on the {lamp} in the {room}",
        "(turn|switch) the {room} {lamp} on [{polite}]",
        "{room} lights on [{polite}]",
    ],
    "light_off": [
        "[please] (turn|switch) off the {lamp} in the {room}",
        "(turn|switch) the {room} {lamp} off [{polite}]",
        "{room} lights off [{polite}]",
    ],
    "light_dim": [
        "(set|dim) the {room} lights to {percent} percent",
        "make the {room} {lamp} (brighter|darker) [{polite}]",
    ],
    "heating_set": [
        "(set|change) the {room_air} to {degrees} degrees",
        "make the {room_air} (a bit|much) (warmer|colder) [please]",
        "heating to {degrees} degrees [{polite}]",
    ],
    "timer_set": [
        "(set|start) a timer for {count} (minutes|seconds|hours)",
        "remind me in {count} (minutes|hours) [please]",
        "{count} (minutes|hours) from now",
    ],
    "alarm_set": ["wake me [up] at {clock} [{day}]", "set an alarm for {clock} [{day}]", "alarm at {clock} {day}"],
    "music_play": [
        "[please] play {music} in the {room}",
        "(can|could) you play {music} [{polite}]",
        "play {music} {day}",
    ],
    "music_stop": [
        "[please] (stop|pause) the (music|radio|song) in the {room}",
        "(stop|pause) the (song|music|radio) [{polite}]",
    ],
    "volume_up": [
        "turn the {room} (music|radio) up [{polite}]",
        "make the (music|radio|song) (a bit|much) louder [{polite}]",
    ],
    "volume_down": [
        "turn the {room} (music|radio) down [{polite}]",
        "make the (music|radio|song) (a bit|much) quieter [{polite}]",
    ],
    "weather_ask": [
        "(what is|tell me) the weather {day} [please]",
        "will it (rain|snow|be cold|be sunny|be windy) {day}",
        "do i need (an umbrella|a coat) {day}",
    ],
    "shopping_add": [
        "(add|put) {amount} {item} (on|to) the list",
        "we need {item} and {item}",
        "buy {amount} {item} {day}",
    ],
    "call_person": ["[please] call {person} (at home|at work|{day})", "(can|could) you call {person}"],
    "calendar_add": ["add {event} {day}", "remind me of {event} at {clock}", "{event} at {clock} {day}"],
    "blinds_open": ["[please] open the {room} {cover} [half way]", "open the {room} {cover} at {clock}"],
    "blinds_close": ["[please] close the {room} {cover} [half way]", "close the {room} {cover} at {clock}"],
}

_SAME_TWICE = re.compile(r"\b(\w+) and \1\b")
_CHOICE = re.compile(r"\[([^\]]*)\]|\(([^)]*)\)|\{(\w+)\}")


def expand(template: str) -> Iterator[str]:
    """Yield every sentence of a template: `(a|b)` one of, `[a]` with or without, `{slot}` a word group of `SLOTS`."""
    match = _CHOICE.search(template)
    if match is None:
        yield " ".join(template.split())
        return
    optional, choice, slot = match.groups()
    if optional is not None:
        options = ["", optional]
    elif choice is not None:
        options = choice.split("|")
    else:
        options = SLOTS[slot].split("|")
    for option in options:
        yield from expand(template[: match.start()] + option + template[match.end() :])


def split_of(sentence: str, seed: int) -> str:
    """Return the only split that may hold a sentence: about 80 % train, 8 % valid, 12 % test, whatever the sizes."""
    draw = int.from_bytes(hashlib.sha256(f"{seed}:{sentence}".encode()).digest()[:4], "big") / 2**32
    return "train" if draw < 0.8 else "valid" if draw < 0.88 else "test"


def sentence_pools(seed: int) -> dict[str, dict[str, list[str]]]:
    """Return `{split: {intent: sorted sentences}}`: sentences of 3 to 9 words, none of them in two splits."""
    pools: dict[str, dict[str, list[str]]] = {split: {intent: [] for intent in TEMPLATES} for split in SPLITS}
    for intent, templates in TEMPLATES.items():
        for sentence in sorted(set(itertools.chain.from_iterable(expand(template) for template in templates))):
            if 3 <= len(sentence.split()) <= 9 and not _SAME_TWICE.search(sentence):
                pools[split_of(sentence, seed)][intent].append(sentence)
    return pools
