"""Language models, trained as our recognisers are."""

import espnet2_kd.register  # noqa: F401, I001  (before espnet2: it makes that import quick)
from espnet2.tasks.lm import LMTask

from espnet2_kd.tasks.guarded import guarded

GuardedLMTask = guarded(LMTask)
