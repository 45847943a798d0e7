import pytest
import torch
from espnet.nets.pytorch_backend.conformer.convolution import ConvolutionModule as StockConvolution
from espnet.nets.pytorch_backend.conformer.encoder_layer import EncoderLayer
from espnet.nets.pytorch_backend.transformer.attention import RelPositionMultiHeadedAttention
from espnet.nets.pytorch_backend.transformer.embedding import RelPositionalEncoding
from espnet.nets.pytorch_backend.transformer.positionwise_feed_forward import PositionwiseFeedForward

from espnet2_kd.layers.attention_plan import AttentionPlan
from espnet2_kd.layers.chunk_context import ChunkContext
from espnet2_kd.layers.conformer_block import ConformerBlock
from espnet2_kd.layers.relative_position import relative_positions

SIZE = 8


def block(**settings):
    torch.manual_seed(0)
    settings = {"kernel_size": 5, "causal": True, **settings}
    module = ConformerBlock(SIZE, 2, 12, **settings)
    for name, parameter in module.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
    return module.eval()


def run(module, x, lens, context):
    plan = AttentionPlan.make(lens, x.shape[1], context)
    mask = (torch.arange(x.shape[1]) < lens[:, None])[:, None]
    return module(x, mask, relative_positions(plan.back, plan.ahead, SIZE, x), plan)


@pytest.mark.parametrize("macaron", [True, False])
def test_equals_espnets_layer_with_the_same_weights(macaron):
    ours = block(causal=False, conv_norm="batch_norm", macaron=macaron)
    swish = torch.nn.SiLU()
    stock = EncoderLayer(
        SIZE,
        RelPositionMultiHeadedAttention(2, SIZE, 0.0),
        PositionwiseFeedForward(SIZE, 12, 0.0, swish),
        PositionwiseFeedForward(SIZE, 12, 0.0, swish) if macaron else None,
        StockConvolution(SIZE, 5, swish),
        0.0,
    ).eval()
    weights = ours.state_dict()
    for name, value in stock.state_dict().items():
        weights[name] = weights[name].view_as(value)
    stock.load_state_dict(weights)
    for norm in (m for m in stock.modules() if isinstance(m, torch.nn.LayerNorm)):
        norm.eps = ours.norm_final.eps
    x = torch.randn(2, 30, SIZE)
    (expected, _), _ = stock(RelPositionalEncoding(SIZE, 0.0)(x / SIZE**0.5), torch.ones(2, 1, 30, dtype=torch.bool))
    out, _ = run(ours, x, torch.tensor([30, 30]), ChunkContext())
    assert (out - expected).abs().max() < 1e-5


def test_returns_frames_and_mask_for_taps():
    lens = torch.tensor([30, 12])
    out, mask = run(block(), torch.randn(2, 30, SIZE), lens, ChunkContext(4, 8))
    assert out.shape == (2, 30, SIZE)
    assert mask.dtype == torch.bool and mask.shape == (2, 1, 30) and mask.sum(-1)[:, 0].tolist() == [30, 12]


def test_a_centred_convolution_is_refused_with_chunks():
    module = block(causal=False)
    with pytest.raises(ValueError, match="a chunked context needs a causal one"):
        run(module, torch.randn(1, 9, SIZE), torch.tensor([9]), ChunkContext(4, 8))
    run(block(causal=False, kernel_size=0), torch.randn(1, 9, SIZE), torch.tensor([9]), ChunkContext(4, 8))


@pytest.mark.parametrize(
    ("context", "settings"),
    [
        (ChunkContext(4, 8), {}),
        (ChunkContext(3, 4, 2), {"conv_norm": "batch_norm"}),
        (ChunkContext(2, None, 5), {"macaron": False}),
        (ChunkContext(1, 0), {"kernel_size": 0}),
        (ChunkContext(70, 10), {}),
    ],
)
@pytest.mark.parametrize("piece", [1, 6, 150])
def test_stream_equals_whole(context, settings, piece):
    module, num, lens = block(**settings).double(), 150, torch.tensor([150, 64, 1])
    x = torch.randn(3, num, SIZE, dtype=torch.float64)
    with torch.no_grad():
        expected, mask = run(module, x, lens, context)
        state, outputs, received = module.initial_state(3), [], 0
        for part in x.split(piece, dim=1):
            received += part.shape[1]
            out, state = module.forward_chunk(part, lens, state, context, received == num)
            outputs.append(out)
            assert state.emitted == (num if received == num else context.complete(received))
    actual = torch.cat(outputs, dim=1)
    assert actual.shape == expected.shape
    torch.testing.assert_close(actual[mask[:, 0]], expected[mask[:, 0]], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("context", [ChunkContext(4, 8), ChunkContext(3, 4, 2), ChunkContext(2, 3, 5)])
def test_a_stream_remembers_a_bounded_number_of_frames(context):
    module, state, sizes = block(), None, set()
    state = module.initial_state(1)
    with torch.no_grad():
        for n in range(200):
            _, state = module.forward_chunk(
                torch.randn(1, context.chunk, SIZE), torch.tensor([10**9]), state, context, False
            )
            if n > 20:
                sizes.add((state.pending.shape, state.keys.shape, state.values.shape, state.conv.shape))
    assert len(sizes) == 1
    pending, keys, _, _ = sizes.pop()
    assert pending[1] <= context.right + context.chunk and keys[1] == context.left + pending[1]
