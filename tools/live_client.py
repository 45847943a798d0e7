#!/usr/bin/env python3
"""Sends a sound file to the live demo and prints what its models understand, as it comes.

    python -m espnet2_kd.bin.demo --model exp/... &
    python tools/live_client.py my.wav

Nothing but aiohttp and soundfile is needed: an example for programs of your own. The messages: doc/live_demo.md.
"""

import argparse
import asyncio
import json
import sys

import aiohttp
import soundfile

PIECE_SECONDS = 0.1


async def send(socket, samples, rate, in_real_time):
    # Few large messages where nobody waits for the first words.
    size = int((PIECE_SECONDS if in_real_time else 5 * PIECE_SECONDS) * rate)
    for start in range(0, len(samples), size):
        if in_real_time:
            await asyncio.sleep(PIECE_SECONDS)
        await socket.send_bytes(samples[start : start + size].tobytes())
    await socket.send_json({"type": "end"})


def show(message, systems):
    name = systems[message["system"]]["name"]
    if "words" in message:
        text = " ".join(word["text"] if word["final"] else f"({word['text']})" for word in message["words"])
    else:
        text = " ".join(f"{one['slot']}={one['value']} ({one['probability']:.0%})" for one in message["intents"])
    print(f"{message['audio_ms'] / 1000:7.2f} s  {name}{'' if message['final'] else ' ...'}: {text}", flush=True)


async def recognize(url, path, in_real_time):
    samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
    async with aiohttp.ClientSession() as http, http.ws_connect(url) as socket:
        await socket.send_json({"type": "hello", "rate": rate, "format": "int16"})
        systems, finished, sending = [], {}, None
        async for answer in socket:
            message = json.loads(answer.data)
            if message["type"] == "ready":
                systems = message["systems"]
                sending = asyncio.create_task(send(socket, samples[:, 0], rate, in_real_time))
            elif message["type"] == "error":
                sys.exit(f"{url}: {message['message']}")
            elif message["type"] == "result":
                show(message, systems)
                if message["final"] and not message["cut"]:
                    finished[message["system"]] = True
                    if len(finished) == len(systems):
                        await sending
                        return
    sys.exit(f"{url}: the server hung up")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", help="wav, flac, ...; of several channels the first is taken")
    parser.add_argument("--url", default="http://127.0.0.1:8765/listen")
    parser.add_argument("--at_once", action="store_true", help="as quickly as the server takes it, not as if spoken")
    args = parser.parse_args()
    try:
        asyncio.run(recognize(args.url, args.audio, not args.at_once))
    except (aiohttp.ClientError, soundfile.LibsndfileError) as error:
        sys.exit(f"{args.url}, {args.audio}: {error}")
