"""Speech recognition with distillation."""

import espnet2_kd.register  # noqa: F401, I001  (before espnet2: it makes that import quick and offers our parts)
from espnet2.tasks.asr import ASRTask

from espnet2_kd.tasks.kd import with_kd

KDASRTask = with_kd(ASRTask)
