//! The list of all tensors of a model. This is the only place that knows their shapes, and which layers have biases
//! or are stored as one tensor. [`crate::model`] asks for tensors by name.

use crate::config::{Architecture, ModelConfig, Tower};

/// The query of the pooling head.
pub(crate) const POOLING_PROBE: &str = "vision_tower.head.probe";
/// Its projections to queries, keys and values, one after the other; `_weight` and `_bias` follow.
pub(crate) const POOLING_ATTENTION: &str = "vision_tower.head.attention.in_proj";

/// The part of a model a weight belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The vision tower.
    Vision,
    /// The projector and the row separator.
    Projector,
    /// The decoder: embedding, layers, final norm and output matrix.
    Language,
}

/// A tensor that a checkpoint must contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weight {
    /// Canonical name.
    pub name: String,
    /// Dimensions, outermost first; linear layers are [out, in].
    pub shape: Vec<usize>,
    /// The part it belongs to.
    pub part: Part,
    /// No answer needs it, though published checkpoints have it: blocks of the vision tower after
    /// those that the features come from (a method may score by one), its final norm, and its pooling head.
    pub optional: bool,
}

impl Weight {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// All weights of a model with this configuration, in the order of published checkpoints. With
/// [tied](crate::config::TextConfig::tied) embeddings there is no `lm_head.weight`.
pub fn layout(config: &ModelConfig) -> Vec<Weight> {
    let mut list = List { part: Part::Projector, optional: false, weights: Vec::new() };
    if matches!(config.architecture, Architecture::LlavaNext | Architecture::OneVision) {
        list.push("image_newline", &[config.text.hidden]);
    }
    list.part = Part::Vision;
    vision(config, &mut list);
    list.part = Part::Projector;
    let text = &config.text;
    // Where several patches make a token, their features lie side by side.
    let features = config.vision.hidden * if config.pooled { 1 } else { config.cell.pow(2) };
    if config.architecture == Architecture::InternVl {
        list.pair("multi_modal_projector.layer_norm", &[features]);
    }
    for (layer, width) in [("linear_1", features), ("linear_2", text.hidden)] {
        list.push(format!("multi_modal_projector.{layer}.weight"), &[text.hidden, width]);
        if config.projector_bias {
            list.push(format!("multi_modal_projector.{layer}.bias"), &[text.hidden]);
        }
    }
    if config.pooled {
        list.pair("multi_modal_projector.peg", &[text.hidden, 1, 3, 3]);
    }
    list.part = Part::Language;
    language(config, &mut list);
    list.weights
}

struct List {
    part: Part,
    optional: bool,
    weights: Vec<Weight>,
}

impl List {
    fn push(&mut self, name: impl Into<String>, shape: &[usize]) {
        let (part, optional) = (self.part, self.optional);
        self.weights.push(Weight { name: name.into(), shape: shape.to_vec(), part, optional });
    }

    /// Adds a weight and its bias.
    fn pair(&mut self, name: &str, shape: &[usize]) {
        self.push(format!("{name}.weight"), shape);
        self.push(format!("{name}.bias"), &shape[..1]);
    }
}

fn vision(config: &ModelConfig, list: &mut List) {
    let vision = &config.vision;
    let (width, patch) = (vision.hidden, vision.patch_size);
    let is_internvit = vision.tower == Tower::InternVit;
    let rows = vision.patches() + usize::from(vision.class_token());
    if vision.class_token() {
        let shape: &[usize] = if is_internvit { &[1, 1, width] } else { &[width] };
        list.push("vision_tower.embeddings.class_embedding", shape);
    }
    list.push("vision_tower.embeddings.patch_embedding.weight", &[width, 3, patch, patch]);
    if vision.patch_bias() {
        list.push("vision_tower.embeddings.patch_embedding.bias", &[width]);
    }
    let shape: &[usize] = if is_internvit { &[1, rows, width] } else { &[rows, width] };
    list.push("vision_tower.embeddings.position_embedding.weight", shape);
    if vision.pre_norm() {
        list.pair("vision_tower.pre_layrnorm", &[width]);
    }
    for layer in 0..vision.layers {
        list.optional = layer >= config.feature_blocks;
        let block = format!("vision_tower.encoder.layers.{layer}");
        for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            let name = format!("{block}.self_attn.{projection}");
            list.push(format!("{name}.weight"), &[width, width]);
            if vision.qkv_bias || projection == "out_proj" {
                list.push(format!("{name}.bias"), &[width]);
            }
        }
        if vision.qk_norm {
            for norm in ["q_norm", "k_norm"] {
                list.push(format!("{block}.self_attn.{norm}.weight"), &[width]);
            }
        }
        if vision.layer_scale() {
            for factors in ["lambda_1", "lambda_2"] {
                list.push(format!("{block}.{factors}"), &[width]);
            }
        }
        list.pair(&format!("{block}.layer_norm1"), &[width]);
        list.pair(&format!("{block}.mlp.fc1"), &[vision.intermediate, width]);
        list.pair(&format!("{block}.mlp.fc2"), &[width, vision.intermediate]);
        list.pair(&format!("{block}.layer_norm2"), &[width]);
    }
    list.optional = true;
    if !is_internvit {
        list.pair("vision_tower.post_layernorm", &[width]);
    }
    if vision.pooling_head {
        list.push(POOLING_PROBE, &[1, 1, width]);
        list.push(format!("{POOLING_ATTENTION}_weight"), &[3 * width, width]);
        list.push(format!("{POOLING_ATTENTION}_bias"), &[3 * width]);
        list.pair("vision_tower.head.attention.out_proj", &[width, width]);
        list.pair("vision_tower.head.layernorm", &[width]);
        list.pair("vision_tower.head.mlp.fc1", &[vision.intermediate, width]);
        list.pair("vision_tower.head.mlp.fc2", &[width, vision.intermediate]);
    }
    list.optional = false;
}

fn language(config: &ModelConfig, list: &mut List) {
    let text = &config.text;
    let (width, mlp) = (text.hidden, text.intermediate);
    let (q, kv) = (text.heads * text.head_dim, text.kv_heads * text.head_dim);
    list.push("language_model.embed_tokens.weight", &[text.vocab, width]);
    for layer in 0..text.layers {
        let block = format!("language_model.layers.{layer}");
        let mut linear = |name: &str, shape: &[usize], bias: bool| {
            list.push(format!("{block}.{name}.weight"), shape);
            if bias {
                list.push(format!("{block}.{name}.bias"), &shape[..1]);
            }
        };
        if text.fused {
            linear("self_attn.qkv_proj", &[q + 2 * kv, width], text.qkv_bias);
        } else {
            for (name, rows) in [("q_proj", q), ("k_proj", kv), ("v_proj", kv)] {
                linear(&format!("self_attn.{name}"), &[rows, width], text.qkv_bias);
            }
        }
        if text.parallel {
            linear("self_attn.dense", &[width, q], true);
            linear("mlp.fc1", &[mlp, width], true);
            linear("mlp.fc2", &[width, mlp], true);
            list.pair(&format!("{block}.input_layernorm"), &[width]);
            continue;
        }
        linear("self_attn.o_proj", &[width, q], false);
        if text.fused {
            linear("mlp.gate_up_proj", &[2 * mlp, width], false);
        } else {
            linear("mlp.gate_proj", &[mlp, width], false);
            linear("mlp.up_proj", &[mlp, width], false);
        }
        linear("mlp.down_proj", &[width, mlp], false);
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            list.push(format!("{block}.{norm}.weight"), &[width]);
        }
        if text.head_norm {
            for norm in ["q_norm", "k_norm"] {
                list.push(format!("{block}.self_attn.{norm}.weight"), &[text.head_dim]);
            }
        }
    }
    match text.parallel {
        true => list.pair("language_model.final_layernorm", &[width]),
        false => list.push("language_model.norm.weight", &[width]),
    }
    if !text.tied {
        list.push("lm_head.weight", &[text.vocab, width]);
    }
    if text.head_bias {
        list.push("lm_head.bias", &[text.vocab]);
    }
}
