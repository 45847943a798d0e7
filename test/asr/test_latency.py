from espnet2_kd.asr.hypothesis import Hypothesis
from espnet2_kd.asr.latency import Step, chunk_compute_ms, done_ms, emission_delays_ms, summary, token_ms
from espnet2_kd.asr.words import Word


def steps(*rows):
    return [Step(audio, compute, frames, Hypothesis(tokens)) for audio, compute, frames, tokens in rows]


def test_work_on_a_piece_waits_for_its_audio_and_for_the_piece_before():
    live = steps((100, 10, 1, ()), (200, 250, 1, ()), (300, 10, 1, ()), (1000, 10, 1, ()))
    assert done_ms(live) == [110, 450, 460, 1010]


def test_tokens_come_out_when_they_come_to_stay():
    greedy = steps((100, 1, 1, ()), (200, 1, 1, (5,)), (300, 1, 1, (5, 6, 7)), (400, 1, 0, (5, 6, 7)))
    assert token_ms(greedy) == [201, 301, 301]
    beam = steps((100, 1, 1, (5,)), (200, 1, 1, (5, 9)), (300, 1, 1, (4,)), (400, 1, 1, (5, 6)), (500, 1, 1, (5, 6, 8)))
    assert token_ms(beam) == [401, 401, 501]
    assert token_ms(steps((100, 1, 1, ()))) == []


def test_chunk_compute_counts_the_pieces_that_led_to_the_frames():
    live = steps((40, 1, 0, ()), (80, 2, 0, ()), (120, 5, 2, ()), (160, 1, 0, ()), (200, 7, 2, ()), (240, 9, 0, ()))
    assert chunk_compute_ms(live) == [8, 8]


def test_delays_are_those_of_correct_words_only():
    words = [Word("turn", 0), Word("of", 1), Word("the", 2), Word("light", 4)]
    delays = emission_delays_ms(
        words, [300, 500, 700, 800, 1000], ["turn", "off", "the", "kitchen", "light"], [250, 400, 500, 750, 900]
    )
    assert delays == [50, 200, 100]
    assert emission_delays_ms(words, [0] * 5, [], []) == []
    assert emission_delays_ms([], [], ["turn"], [250]) == []


def test_summary_of_known_values():
    assert summary(range(1, 102), (50, 90, 99), mean=True) == {"mean": 51.0, "p50": 51.0, "p90": 91.0, "p99": 100.0}
    assert summary([], (50,)) is None
