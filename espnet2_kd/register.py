"""Makes the parts of this project known to ESPnet2; importing it is enough. The only writer to its class choices for recognisers."""

from espnet2_kd.asr.rnnt_loss import offer_as_warprnnt
from espnet2_kd.data.kaldi_ark import refuse_programs
from espnet2_kd.tasks.quick_import import import_attention, quick_import

quick_import()
import_attention()
offer_as_warprnnt()
refuse_programs()

from espnet2.tasks import asr  # noqa: E402  (after quick_import, or it takes many seconds)

from espnet2_kd.asr.cif_model import CIFASRModel  # noqa: E402
from espnet2_kd.asr.decoder.cif_decoder import CIFDecoder  # noqa: E402
from espnet2_kd.asr.encoder.chunk_conformer import ChunkConformerEncoder  # noqa: E402
from espnet2_kd.asr.encoder.sinc_gru import RawSamples, SincGRUEncoder  # noqa: E402

asr.frontend_choices.classes["raw"] = RawSamples
asr.encoder_choices.classes["chunk_conformer"] = ChunkConformerEncoder
asr.encoder_choices.classes["sinc_gru"] = SincGRUEncoder
asr.decoder_choices.classes["cif"] = CIFDecoder
asr.model_choices.classes["cif"] = CIFASRModel
