"""The sizes of the tests' small models, whatever their family."""

WIDTH, HEADS, PIXELS, PATCH = 64, 4, 56, 14

SIZES = {
    **dict.fromkeys(
        (
            *("hidden_size", "d_model", "embed_dim", "out_hidden_size", "text_hidden_size", "encoder_hidden_size"),
            *("projection_dim", "word_embed_proj_dim", "vision_hidden_size", "projector_hidden_size", "output_dim"),
            *("image_text_hidden_size", "projection_hidden_size", "merged_hidden_size", "projector_input_dim"),
            *("projector_output_dim", "projection_hidden_dim", "decoder_hidden_size", "downsample_hidden_size"),
        ),
        WIDTH,
    ),
    **dict.fromkeys(
        (
            *("intermediate_size", "ffn_dim", "mlp_dim", "d_ff", "moe_intermediate_size", "encoder_ffn_dim"),
            *("decoder_ffn_dim", "shared_expert_intermediate_size", "dense_intermediate_size"),
            *("shared_intermediate_size", "projection_intermediate_size", "intermediate_size_mlp"),
            *("alignment_intermediate_size", "moe_shared_expert_intermediate_size", "share_expert_dim"),
            *("moe_hidden_size", "shared_experts_intermediate_size"),
        ),
        2 * WIDTH,
    ),
    **dict.fromkeys(
        (
            *("num_hidden_layers", "depth", "num_layers", "encoder_layers", "decoder_layers", "layers", "n_layers"),
            *("num_decoder_layers", "attention_layers"),
        ),
        4,
    ),
    **dict.fromkeys(
        (
            *("num_attention_heads", "num_heads", "encoder_attention_heads", "decoder_attention_heads"),
            *("attention_heads", "linear_num_value_heads", "index_n_heads", "resampler_n_heads"),
        ),
        HEADS,
    ),
    **dict.fromkeys(("head_dim", "qk_nope_head_dim", "v_head_dim", "linear_key_head_dim", "linear_value_head_dim"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "index_head_dim", "d_kv", "query_pre_attn_scalar"), 16),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank"), 32),
    "qk_head_dim": 32,
    "linear_num_key_heads": 2,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_topk": 2,
    "moe_k": 2,
    "n_group": 1,
    "topk_group": 1,
    "max_position_embeddings": 512,
    "num_position_embeddings": 256,
    "sliding_window": 16,
    "image_size": PIXELS,
    "patch_size": PATCH,
    "image_seq_length": 4,
    "image_seq_len": 4,
    "mm_tokens_per_image": 4,
    "max_window_layers": 2,
    "first_k_dense_replace": 1,
    "num_nextn_predict_layers": 0,
}
"""Sizes by their names in the configurations."""
