"""Groups operators by what they do to rows, under Paddle 3's names."""

from __future__ import annotations

__all__ = [
    "BATCH_FIRST",
    "BY_SIZES",
    "ELEMENTWISE",
    "FOLLOWING_DATA",
    "FULL_REDUCTIONS",
    "LIKE",
    "LINEAR_ALGEBRA",
    "RANDOM",
    "REDUCTIONS",
    "SHAPES",
]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ELEMENTWISE = _names(
    """
    abs acos acosh add add_n asin asinh assign atan atan2 atanh bce_loss bitwise_and bitwise_left_shift
    bitwise_not bitwise_or bitwise_right_shift bitwise_xor brelu cast ceil celu clip conj copy_to
    copysign cos cosh dequantize_linear digamma divide elementwise_fmax elementwise_fmin
    elementwise_heaviside elementwise_pow elu equal erf erfinv exp expm1
    fake_quantize_dequantize_moving_average_abs_max fake_quantize_moving_average_abs_max floor
    floor_divide fmax fmin gammaln gelu greater_equal greater_than hard_shrink hardshrink hardsigmoid
    hardswish hardtanh heaviside i0 i0e i1 i1e imag increment isclose isfinite isinf isnan leaky_relu
    lerp less_equal less_than lgamma log log10 log1p log2 logical_and logical_not logical_or logical_xor
    logit logsigmoid masked_fill maximum memcpy memcpy_d2h memcpy_h2d minimum mish multiply nextafter
    not_equal npu_identity polygamma pow print quantize_linear real reciprocal relu relu6 remainder rint
    round rsqrt scale selu shard_index share_data sigmoid sign silu sin sinh softplus softshrink
    softsign sqrt square stanh subtract swish tan tanh tanh_shrink thresholded_relu trunc trunc_divide
    where
    """
)

FULL_REDUCTIONS = _names(
    """
    accuracy allclose auc clip_by_norm dist equal_all fake_quantize_abs_max
    fake_quantize_dequantize_abs_max l1_norm mean_all squared_l2_norm
    """
)
"""They compute over everything, whatever their attributes say."""

REDUCTIONS = _names(
    """
    all amax amin any argmax argmin frobenius_norm kthvalue logsumexp max max_with_index mean median min
    min_with_index mode nanmedian nansum p_norm prod std sum var variance
    """
)

BATCH_FIRST = _names(
    """
    affine_channel affine_grid bicubic_interp bicubic_interp_v2 bilinear_interp bilinear_interp_v2
    channel_shuffle conv2d conv2d_transpose conv2d_transpose_bias conv3d conv3d_transpose
    deformable_conv depthwise_conv2d depthwise_conv2d_bias depthwise_conv2d_transpose flash_attn fold
    fused_conv2d fused_conv2d_add_act grid_sample grid_sampler group_norm index_sample instance_norm
    linear_interp linear_interp_v2 lp_pool2d lrn max_pool2d_v2 max_pool2d_with_index
    max_pool3d_with_index nearest_interp nearest_interp_v2 pixel_shuffle pixel_unshuffle pool2d pool3d
    prelu shuffle_channel trilinear_interp trilinear_interp_v2 unfold yolo_box
    """
)
"""By their definition axis 0 of each argument with rows is the batch."""

LINEAR_ALGEBRA = _names(
    """
    cholesky det determinant eigh eigvals eigvalsh inverse lu matrix_power pinv qr slogdet
    slogdeterminant solve svd svdvals triangular_solve tril tril_triu triu
    """
)
"""They work on the last two axes."""


FOLLOWING_DATA = _names(
    """
    bincount bipartite_match class_center_sample collect_fpn_proposals ctc_align
    distribute_fpn_proposals generate_proposals generate_proposals_v2 histogram is_empty_tensor
    locality_aware_nms masked_select matrix_nms multiclass_nms multiclass_nms2 multiclass_nms3 nms
    nonzero retinanet_detection_output sequence_unpad unique unique_consecutive unique_with_counts
    viterbi_decode where_index yolo_box_post
    """
)
BY_SIZES = _names(
    """
    anchor_generator density_prior_box prior_box
    """
)
"""Their results depend only on the sizes of their arguments."""
LIKE = _names(
    """
    empty_like full_batch_size_like full_like ones_like zeros_like
    """
)
RANDOM = _names(
    """
    bernoulli binomial dirichlet exponential gaussian multinomial poisson randint random randperm
    standard_gamma top_p_sampling truncated_gaussian_random uniform uniform_random_batch_size_like
    """
)
SHAPES = _names(
    """
    numel shape shape64
    """
)
