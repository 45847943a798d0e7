"""A tiny copy of the layout of AISHELL-1, spoken by espeak-ng, to try the recipe out without the recordings."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import soundfile

from espnet2_kd.data.espeak import speak
from espnet2_kd.data.resample import resample, to_pcm16
from espnet2_kd.data.scratch import scratch_folder

FS = 16000
# One voice per speaker, numbered as in the corpus.
SPEAKERS = {
    "train": {"S0002": "m1", "S0003": "f1", "S0004": "m3"},
    "dev": {"S0724": "f2", "S0725": "m6"},
    "test": {"S0764": "m4", "S0765": "f4"},
}
PACKED = "S0003"  # still an archive in wav/, as all are when the corpus arrives
NUM_EVALUATION = 8  # sentences of each speaker of dev and test
SENTENCES = (
    *("今天 天气 很 好", "我们 去 公园 走走", "请 把 门 关上", "他 每天 早上 六点 起床", "这 本 书 很 有意思"),
    *(
        "妈妈 在 厨房 做饭",
        "火车 几点 到 北京",
        "孩子 们 在 院子 里 玩",
        "外面 下雨 了 记得 带伞",
        "我 想 喝 一杯 热茶",
    ),
    *("公司 明天 上午 开会", "这 条 路 正在 修理", "医生 让 他 多 休息", "超市 里 的 水果 很 新鲜", "她 喜欢 听 音乐"),
    *(
        "老师 给 学生 讲 故事",
        "飞机 晚点 了 两个 小时",
        "周末 我们 一起 爬山",
        "他 忘记 带 手机 了",
        "这 家 饭店 的 菜 不错",
    ),
    *(
        "房间 里 太 热 了 开 窗 吧",
        "弟弟 在 学 游泳",
        "请问 银行 在 哪里",
        "晚上 的 星星 很 亮",
        "今年 冬天 比 去年 冷",
    ),
)


def make_corpus(directory: Path) -> Path:
    """Write `data_aishell/wav/<set>/<speaker>/*.wav` and the transcripts, unless they exist; return `directory`.

    The first speaker has a recording more than transcripts, as some of the corpus have.
    """
    if directory.exists():
        return directory
    with scratch_folder(directory) as temporary:
        root = temporary / "corpus"
        wav = root / "data_aishell" / "wav"
        lines = []
        for name, speakers in SPEAKERS.items():
            sentences = SENTENCES if name == "train" else SENTENCES[:NUM_EVALUATION]
            for speaker, variant in speakers.items():
                folder = wav / name / speaker
                folder.mkdir(parents=True)
                for number, sentence in enumerate(sentences):
                    utt = f"BAC009{speaker}W{121 + number:04d}"
                    # Not `cmn`, which in espeak-ng 1.51 reads the syllables as English.
                    samples, fs = speak(sentence.replace(" ", ""), f"cmn-latn-pinyin+{variant}", 160)
                    soundfile.write(folder / f"{utt}.wav", to_pcm16(resample(samples, fs, FS)), FS)
                    lines.append(f"{utt} {sentence}\n")
        lines.pop(len(SENTENCES) - 1)
        transcript = root / "data_aishell" / "transcript" / "aishell_transcript_v0.8.txt"
        transcript.parent.mkdir()
        transcript.write_text("".join(lines), encoding="utf-8")
        with tarfile.open(wav / f"{PACKED}.tar.gz", "w:gz") as bundle:
            bundle.add(wav / "train" / PACKED, f"train/{PACKED}")
        shutil.rmtree(wav / "train" / PACKED)
        os.replace(root, directory)
    return directory
