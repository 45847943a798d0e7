"""Prepare the corpus of egs2/mini/asr1 here: its sentences have intents, and both recipes hear the same audio."""

import sys

from espnet2_kd.data.places import PROJECT

sys.path.insert(0, str(PROJECT / "egs2" / "mini" / "asr1" / "local"))

from prepare import main  # the sibling's, since its folder now comes first

if __name__ == "__main__":
    main()
