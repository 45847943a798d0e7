import pytest
import torch

from espnet2_kd.layers.convolution import ConvolutionModule


def module(causal=True, kernel=5, norm="layer_norm"):
    torch.manual_seed(0)
    return ConvolutionModule(6, kernel, causal, norm).double()


def valid_frames(num, lens):
    return torch.arange(num) < torch.tensor(lens)[:, None]


def depthwise(conv, gated, before):
    """(T, D) -> (T, D), one frame and tap at a time."""
    num = len(gated)
    kernel = conv.weight[:, 0]
    rows = []
    for t in range(num):
        taps = [(t - before + j, j) for j in range(kernel.shape[1])]
        rows.append(conv.bias + sum(kernel[:, j] * gated[s] for s, j in taps if 0 <= s < num))
    return torch.stack(rows)


@pytest.mark.parametrize(("causal", "kernel"), [(True, 1), (True, 4), (True, 5), (False, 5), (False, 1)])
def test_equals_the_definition_for_each_utterance_by_itself(causal, kernel):
    conv = module(causal, kernel)
    lens = [9, 4, 1]
    x = torch.randn(3, 9, 6, dtype=torch.float64)
    out = conv(x, valid_frames(9, lens))
    for b, length in enumerate(lens):
        a, gate = conv.pointwise_conv1(x[b, :length]).chunk(2, dim=-1)
        y = depthwise(conv.depthwise_conv, a * gate.sigmoid(), kernel - 1 if causal else (kernel - 1) // 2)
        expected = conv.pointwise_conv2(torch.nn.functional.silu(conv.norm(y)))
        torch.testing.assert_close(out[b, :length], expected)


@pytest.mark.parametrize("norm", ["layer_norm", "batch_norm"])
@pytest.mark.parametrize("kernel", [1, 5])
def test_stream_equals_whole(norm, kernel):
    conv = module(True, kernel, norm).eval()
    if norm == "batch_norm":
        conv.norm.running_mean.normal_()
    x, valid = torch.randn(2, 11, 6, dtype=torch.float64), valid_frames(11, [11, 6])
    past = x.new_zeros(2, 6, conv.history)
    outputs = []
    for piece in x.split([1, 4, 6], dim=1):
        out, past = conv.forward_chunk(piece, past)
        assert past.shape == (2, 6, kernel - 1)
        outputs.append(out)
    torch.testing.assert_close(torch.cat(outputs, dim=1)[valid], conv(x, valid)[valid])


def test_batch_statistics_leave_out_padding():
    conv, x, seen = module(norm="batch_norm"), torch.randn(2, 9, 6, dtype=torch.float64), []
    conv.depthwise_conv.register_forward_hook(lambda m, args, out: seen.append(out.transpose(1, 2)))
    valid = valid_frames(9, [9, 4])
    conv(x, valid)
    frames = torch.cat([seen[0][0], seen[0][1, :4]])
    torch.testing.assert_close(conv.norm.running_mean, 0.1 * frames.mean(0))
    poisoned = x.masked_fill(~valid[:, :, None], 1e6)
    torch.testing.assert_close(conv(poisoned, valid)[valid], conv(x, valid)[valid])


def test_wrong_settings():
    with pytest.raises(ValueError, match="odd kernel, got 4"):
        module(causal=False, kernel=4)
    with pytest.raises(ValueError, match="unknown conv_norm 'group_norm'"):
        module(norm="group_norm")
    with pytest.raises(ValueError, match="unknown activation 'tanh'"):
        ConvolutionModule(6, 5, True, activation="tanh")
