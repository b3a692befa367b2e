//! Decoders: reads `text_config`, with a table of the differences between `model_type`s.

use super::json::Section;
use super::model::{
    MAX_HEADS, MAX_HIDDEN, MAX_INTERMEDIATE, MAX_LAYERS, MAX_POSITIONS, MAX_VOCAB, divides,
    head_dim,
};
use super::{Architecture, Family, TextConfig, rope};
use crate::Result;

/// When a decoder only attends to a sliding window of positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Window {
    /// Never; the key is ignored.
    Never,
    /// Unless `sliding_window` is null; this is the default width.
    Default(usize),
    /// If `sliding_window` is a number.
    IfGiven,
    /// If `use_sliding_window` is true; this is the default width.
    IfUsed(usize),
}

/// The properties of a kind of decoder: the defaults of its configuration class in transformers, and where its
/// arithmetic or its tensors differ from LLaMA's.
#[derive(Debug)]
pub(super) struct Facts {
    model_type: &'static str,
    family: Family,
    hidden: usize,
    intermediate: usize,
    layers: usize,
    /// Key and value heads where the key is absent; `None`, and `null` in the file: as many as query heads.
    kv_heads: Option<usize>,
    /// Head size if the key is absent; `None`: hidden_size / num_attention_heads.
    head_dim: Option<usize>,
    vocab: usize,
    positions: usize,
    /// The key of the norms' epsilon, and its default.
    eps: (&'static str, f64),
    /// Ids that end an answer.
    pub eos: &'static [u32],
    window: Window,
    qkv_bias: bool,
    head_norm: bool,
    fused: bool,
    parallel: bool,
    head_bias: bool,
    /// The MLP's activation: its names, the first where the key is absent.
    activations: &'static [&'static str],
    /// Share of a head that turns where `partial_rotary_factor` is absent; `None`: all of it, always.
    turned: Option<f64>,
}

const LLAMA: Facts = Facts {
    model_type: "llama",
    family: Family::Llama,
    hidden: 4096,
    intermediate: 11008,
    layers: 32,
    kv_heads: None,
    head_dim: None,
    vocab: 32000,
    positions: 2048,
    eps: ("rms_norm_eps", 1e-6),
    eos: &[2],
    window: Window::Never,
    qkv_bias: false,
    head_norm: false,
    fused: false,
    parallel: false,
    head_bias: false,
    activations: &["silu", "swish"],
    turned: None,
};

const QWEN2: Facts = Facts {
    model_type: "qwen2",
    family: Family::Qwen2,
    intermediate: 22016,
    kv_heads: Some(32),
    vocab: 151_936,
    positions: 32768,
    eos: &[],
    window: Window::IfUsed(4096),
    qkv_bias: true,
    ..LLAMA
};

/// One row for each kind of decoder.
const DECODERS: [Facts; 6] = [
    LLAMA,
    Facts {
        model_type: "mistral",
        family: Family::Mistral,
        intermediate: 14336,
        kv_heads: Some(8),
        positions: 131_072,
        window: Window::Default(4096),
        ..LLAMA
    },
    QWEN2,
    Facts {
        model_type: "qwen3",
        family: Family::Qwen3,
        head_dim: Some(128),
        qkv_bias: false,
        head_norm: true,
        ..QWEN2
    },
    Facts {
        model_type: "phi3",
        family: Family::Phi3,
        hidden: 3072,
        intermediate: 8192,
        vocab: 32064,
        positions: 4096,
        eps: ("rms_norm_eps", 1e-5),
        eos: &[32000],
        window: Window::IfGiven,
        fused: true,
        ..LLAMA
    },
    Facts {
        model_type: "phi",
        family: Family::Phi,
        hidden: 2048,
        intermediate: 8192,
        layers: 24,
        vocab: 51200,
        eps: ("layer_norm_eps", 1e-5),
        qkv_bias: true,
        parallel: true,
        head_bias: true,
        // One function by two names.
        activations: &["gelu_new", "gelu_pytorch_tanh"],
        turned: Some(0.5),
        ..LLAMA
    },
];

/// The row of a kind.
pub(super) fn facts(family: Family) -> &'static Facts {
    DECODERS.iter().find(|facts| facts.family == family).expect("a row for each family")
}

/// Reads the decoder described by `text_config`.
pub(super) fn text(root: &Section, architecture: Architecture) -> Result<TextConfig> {
    let section = &root.section("text_config")?;
    let known = DECODERS.each_ref().map(|facts| (facts.model_type, facts));
    let default = match architecture {
        Architecture::InternVl | Architecture::OneVision => "qwen2",
        Architecture::LlavaNext | Architecture::Llava => "llama",
    };
    let facts = section.choice("model_type", default, &known)?;
    let activations: Vec<_> = facts.activations.iter().map(|&name| (name, ())).collect();
    section.choice("hidden_act", facts.activations[0], &activations)?;
    for refused in ["attention_bias", "mlp_bias", "qk_layernorm"] {
        section.require_flag(refused, false, false)?;
    }
    let hidden = section.whole("hidden_size", facts.hidden, 1..=MAX_HIDDEN)?;
    let heads = section.whole("num_attention_heads", 32, 1..=MAX_HEADS)?;
    let shared = facts.kv_heads.filter(|_| !section.is_null("num_key_value_heads"));
    let kv_heads = section.whole("num_key_value_heads", shared.unwrap_or(heads), 1..=MAX_HEADS)?;
    divides(section, "num_key_value_heads", kv_heads, "num_attention_heads", heads)?;
    if facts.head_dim.is_none() {
        divides(section, "num_attention_heads", heads, "hidden_size", hidden)?;
    }
    let width = facts.head_dim.unwrap_or(hidden / heads);
    let width = section.whole("head_dim", width, 0..=MAX_HIDDEN)?;
    head_dim(section, "head_dim", width)?;
    let positions = section.whole("max_position_embeddings", facts.positions, 1..=MAX_POSITIONS)?;
    // transformers' classes differ in which of the two sections they obey; the weight files decide in the end.
    let tied = root.flag("tie_word_embeddings", architecture == Architecture::InternVl)?
        || section.flag("tie_word_embeddings", false)?;
    Ok(TextConfig {
        family: facts.family,
        hidden,
        heads,
        kv_heads,
        tied,
        intermediate: section.whole(
            "intermediate_size",
            facts.intermediate,
            1..=MAX_INTERMEDIATE,
        )?,
        layers: section.whole("num_hidden_layers", facts.layers, 1..=MAX_LAYERS)?,
        head_dim: width,
        vocab: section.whole("vocab_size", facts.vocab, 1..=MAX_VOCAB)?,
        eps: section.number(facts.eps.0, facts.eps.1, 1e-12..=1.0)? as f32,
        rope: rope::read(section, positions, width, facts.turned)?,
        max_positions: max_positions(section, facts.window, positions)?,
        qkv_bias: facts.qkv_bias,
        head_norm: facts.head_norm,
        fused: facts.fused,
        parallel: facts.parallel,
        head_bias: facts.head_bias,
    })
}

/// The largest position for which the window has no effect: as long as a sequence fits into the window, every
/// position attends to all before it.
fn max_positions(section: &Section, window: Window, positions: usize) -> Result<usize> {
    const KEY: &str = "sliding_window";
    let width = |default| section.whole(KEY, default, 1..=u32::MAX as usize);
    let window = match window {
        Window::Never => None,
        Window::Default(_) if section.is_null(KEY) => None,
        Window::Default(default) => Some(width(default)?),
        Window::IfGiven if section.get(KEY).is_none() => None,
        Window::IfGiven => Some(width(positions)?),
        Window::IfUsed(_) if !section.flag("use_sliding_window", false)? => None,
        Window::IfUsed(_) if section.is_null(KEY) => None,
        Window::IfUsed(default) => Some(width(default)?),
    };
    Ok(positions.min(window.unwrap_or(positions)))
}
