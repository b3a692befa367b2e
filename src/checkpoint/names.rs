//! Canonical names of tensors, independent of transformers' release.

use crate::config::Tower;

/// Parts of InternViT's tensor names and the corresponding parts of CLIP's, replaced in this order.
const INTERNVIT: [(&str, &str); 8] = [
    ("embeddings.cls_token", "embeddings.class_embedding"),
    ("embeddings.position_embeddings", "embeddings.position_embedding.weight"),
    ("embeddings.patch_embeddings.projection.", "embeddings.patch_embedding."),
    ("encoder.layer.", "encoder.layers."),
    (".attention.projection_layer.", ".self_attn.out_proj."),
    (".attention.", ".self_attn."),
    (".layernorm_before.", ".layer_norm1."),
    (".layernorm_after.", ".layer_norm2."),
];

/// The canonical form of a tensor's stored name. Names that are not those of LLaVA tensors stay unchanged, except for
/// a leading `model.`.
///
/// Published checkpoints have `language_model.model.…`, `language_model.lm_head.weight` and
/// `vision_tower.vision_model.…`; files saved by transformers 5 lack `vision_model.`; files with the module names in
/// memory since transformers 4.52 have `model.` before all names but `lm_head`, and lack the `model.` inside
/// `language_model.`. InternViT's tensors get the names of CLIP's.
pub fn canonical(stored: &str) -> String {
    let name = stored.strip_prefix("model.").unwrap_or(stored);
    if let Some(rest) = name.strip_prefix("language_model.") {
        let rest = rest.strip_prefix("model.").unwrap_or(rest);
        return if rest.starts_with("lm_head.") {
            rest.to_owned()
        } else {
            format!("language_model.{rest}")
        };
    }
    if let Some(rest) = name.strip_prefix("vision_tower.") {
        let rest = rest.strip_prefix("vision_model.").unwrap_or(rest);
        if rest.starts_with("head.") {
            // SigLIP's; what follows are its own words.
            return format!("vision_tower.{rest}");
        }
        let rest = INTERNVIT
            .iter()
            .fold(rest.to_owned(), |name, (own, clips)| name.replacen(own, clips, 1));
        return format!("vision_tower.{rest}");
    }
    name.to_owned()
}

/// The name that published checkpoints with this vision tower use for a canonical name.
pub(crate) fn published(canonical: &str, tower: Tower) -> String {
    if let Some(rest) = canonical.strip_prefix("vision_tower.")
        && tower == Tower::InternVit
    {
        let rest = INTERNVIT
            .iter()
            .fold(rest.to_owned(), |name, (own, clips)| name.replacen(clips, own, 1));
        return format!("vision_tower.{rest}");
    }
    if let Some(rest) = canonical.strip_prefix("vision_tower.") {
        return format!("vision_tower.vision_model.{rest}");
    }
    if let Some(rest) = canonical.strip_prefix("language_model.") {
        return format!("language_model.model.{rest}");
    }
    if canonical.starts_with("lm_head.") {
        return format!("language_model.{canonical}");
    }
    canonical.to_owned()
}
