// Gives the page pieces of 40 ms: the mean of all channels, float32.
class Pieces extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Float32Array(Math.round(sampleRate * 0.04));
    this.filled = 0;
    this.port.onmessage = () => {
      // The page wants the rest, and to know that there is no more.
      this.port.postMessage({ samples: this.piece.slice(0, this.filled), last: true });
      this.filled = 0;
    };
  }

  process(inputs) {
    const channels = inputs[0];
    if (channels.length === 0) return true;
    for (let i = 0; i < channels[0].length; i++) {
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      this.piece[this.filled++] = sum / channels.length;
      if (this.filled === this.piece.length) {
        const samples = this.piece.slice();
        this.port.postMessage({ samples, last: false }, [samples.buffer]);
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("pieces", Pieces);
