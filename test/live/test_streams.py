import numpy as np
import pytest

from espnet2_kd.asr.decode_config import DecodeConfig
from espnet2_kd.asr.recognizer import Recognizer
from espnet2_kd.data.resample import StreamResampler
from espnet2_kd.live.streams import IntentStream, WholeWordStream, WordStream
from espnet2_kd.tasks.intent_classifier import IntentClassifier

RATE = 16000


def load(exp, **settings):
    return Recognizer.load(exp, "valid.loss_transducer.ave.pth", DecodeConfig(**settings))


def hear(stream, samples, sizes):
    """Answers to pieces of the given sizes, and to the rest."""
    answers, start = [], 0
    for size in sizes:
        answers.append(stream.accept(samples[start : start + size], False))
        start += size
    return [*answers, stream.accept(samples[start:], True)]


def texts(answer):
    return [word["text"] for word in answer.found["words"]]


def offline(recognizer, samples):
    return recognizer.text(recognizer.decode([samples])[0][0]).split()


@pytest.mark.parametrize("search, rate", [("greedy", 16000), ("beam", 16000), ("greedy", 48000), ("beam", 44100)])
def test_words_are_those_of_the_whole_and_final_ones_stay(student, noise, search, rate):
    recognizer = load(student, search=search)
    samples = noise(2 * rate)
    expected = offline(recognizer, StreamResampler(rate, RATE).accept(samples, final=True))
    assert len(expected) > 5
    generator = np.random.default_rng(1)
    num_final = 0
    for num in (1, 4, 40):
        answers = hear(WordStream(recognizer, rate), samples, generator.integers(0, 2 * rate // num, num))
        assert texts(answers[-1]) == expected
        assert all(word["final"] for word in answers[-1].found["words"])
        for answer in answers[:-1]:
            final = [word["text"] for word in answer.found["words"] if word["final"]]
            assert texts(answer)[: len(final)] == final == expected[: len(final)]
            assert len(final) < len(texts(answer)) or not final
            num_final += len(final)
        assert answers[-1].audio_ms == pytest.approx(2000.0)
        assert answers[-1].compute_ms > answers[0].compute_ms >= 0.0
        ends = [word["end_ms"] for word in answers[-1].found["words"]]
        assert ends == sorted(ends) and 0.0 < ends[0] and ends[-1] <= 2000.0
    assert num_final > 3


@pytest.mark.parametrize("beam_size", [1, 3])
def test_words_of_a_cif_model(cif_model, noise, beam_size):
    model = cif_model()
    model.normalize = None
    recognizer = Recognizer(model, "char", RATE, DecodeConfig(search="beam", beam_size=beam_size))
    samples = noise(2 * RATE)
    expected = offline(recognizer, samples)
    answers = hear(WordStream(recognizer, RATE), samples, [777] * 30)
    assert texts(answers[-1]) == expected and expected
    assert any(texts(answer) for answer in answers[:-1])
    short = hear(WordStream(recognizer, RATE), samples[:10], [])
    assert texts(short[-1]) == []


@pytest.mark.parametrize("num", [0, 1, 400])
def test_next_to_nothing_has_no_words(student, teacher, intents, noise, num):
    streams = [
        WordStream(load(student), RATE),
        WholeWordStream(load(teacher), RATE, 1000.0, 40.0),
        IntentStream(IntentClassifier.from_pretrained(intents, "valid.acc.best.pth"), RATE, 1000.0),
    ]
    for stream in streams:
        assert list(stream.accept(noise(num), True).found.values()) == [[]]


def test_a_model_with_full_context_guesses_now_and_then(teacher, noise, monkeypatch):
    recognizer = load(teacher)
    samples = noise(3 * RATE)
    looked = []
    decode = recognizer.decode
    monkeypatch.setattr(recognizer, "decode", lambda speech: looked.append(len(speech[0])) or decode(speech))
    # A guess that takes no time is made whenever one is due.
    monkeypatch.setattr("espnet2_kd.live.streams.time.perf_counter", lambda: 0.0)
    answers = hear(WholeWordStream(recognizer, RATE, 500.0, 40.0), samples, [1600] * 29)
    assert looked.pop() == len(samples)
    assert all(word["final"] for word in answers[-1].found["words"])
    guesses = [texts(answer) for answer in answers[:-1]]
    assert not any(guesses[:4]) and guesses[4]
    assert not any(word["final"] for answer in answers[:-1] for word in answer.found["words"])
    monkeypatch.undo()
    assert texts(answers[-1]) == offline(recognizer, samples)
    for num in looked:
        assert guesses[num // 1600 - 1] == offline(recognizer, samples[:num])
    assert 1 < len(looked) <= 5 and min(np.diff(looked)) >= 8000


def test_guessing_never_takes_more_than_a_third_of_the_time(teacher, noise, monkeypatch):
    stream = WholeWordStream(load(teacher), RATE, 100.0, 40.0)
    now = [0.0]
    looked = []
    monkeypatch.setattr("espnet2_kd.live.streams.time.perf_counter", lambda: now[0])

    def understand(samples, final):
        now[0] += 0.3
        looked.append(len(samples) / RATE)
        return {"words": []}

    monkeypatch.setattr(stream, "_understand", understand)
    hear(stream, noise(4 * RATE), [1600] * 39)
    assert np.diff(looked[:-1]).min() >= 0.6 - 1e-6 and len(looked) == 8


def test_without_guesses_only_the_end_counts(teacher, noise):
    recognizer = load(teacher)
    answers = hear(WholeWordStream(recognizer, RATE, 0.0, 40.0), noise(2 * RATE), [1600] * 19)
    assert not any(map(texts, answers[:-1])) and texts(answers[-1]) == offline(recognizer, noise(2 * RATE))


def test_intents(intents, noise):
    classifier = IntentClassifier.from_pretrained(intents, "valid.acc.best.pth")
    samples = noise(2 * RATE)
    answers = hear(IntentStream(classifier, RATE, 500.0), samples, [1600] * 19)

    def wanted(part):
        return [{"slot": s, "value": v, "probability": round(p, 4)} for s, (v, p) in classifier(part).items()]

    assert answers[-1].found == {"intents": wanted(samples)}
    assert answers[0].found == {"intents": []} and answers[4].found == {"intents": wanted(samples[:8000])}
    assert [one["slot"] for one in answers[-1].found["intents"]] == ["intent", "room"]
