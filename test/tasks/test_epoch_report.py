"""What is said of an epoch."""

import math

from espnet2_kd.tasks.epoch_report import ContinuedReporter


def test_error_rates_that_were_not_computed_are_left_out():
    """A loss that is no number is said all the same."""
    reporter = ContinuedReporter()
    reporter.set_epoch(1)
    nothing = math.nan
    for key in ("train", "valid"):
        with reporter.observe(key) as part:
            part.register(
                {"cer_ctc": nothing, "loss_ctc": nothing, "cer_transducer": nothing, "cer": 0.5, "wer": nothing},
                weight=1,
            )
            part.next()
    line = reporter.log_message()
    assert line.startswith("1epoch results: [train] loss_ctc=nan, cer=0.500, time=")
    assert "[valid] loss_ctc=nan, cer=0.500, time=" in line
    assert "wer" not in line and line.count("cer") == 2 and ", ," not in line
