"""The espeak-ng voices of the corpus: every split has all accents, and variants (throats) of its own."""

ACCENTS = {
    "us": "en-us",
    "gb": "en-gb",
    "sc": "en-gb-scotland",
    "rp": "en-gb-x-rp",
    "la": "en-gb-x-gbclan",
    "wm": "en-gb-x-gbcwmd",
    "ca": "en-029",
}

# File names of espeak-ng's variants.
VARIANTS = {
    "train": (
        *("m1", "m2", "m3", "m5", "m6", "m8", "f1", "f2", "f4", "f5"),
        *("Andy", "Annie", "Alex", "steph", "Michael", "ed"),
    ),
    "valid": ("m4", "f3", "Lee", "linda"),
    "test": ("m7", "Mike", "Alicia", "Andrea", "Denis"),
}
