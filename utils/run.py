#!/usr/bin/env python3
"""The job driver; `run.py --help` tells what it takes."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from espnet2_kd.jobs.driver import main

if __name__ == "__main__":
    sys.exit(main())
