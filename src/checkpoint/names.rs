//! One name for each tensor, whatever a release of transformers called it.

/// The canonical form of a tensor's stored name. Names of no LLaVA tensor stay what they are, less
/// a leading `model.`.
///
/// Published checkpoints have `language_model.model.…`, `language_model.lm_head.weight` and
/// `vision_tower.vision_model.…`; files saved from a model built by transformers 5 lack
/// `vision_model.`; files with the names modules have in memory since transformers 4.52 put `model.`
/// in front of all but `lm_head`, and lack the `model.` inside `language_model.`.
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
    if let Some(rest) = name.strip_prefix("vision_tower.vision_model.") {
        return format!("vision_tower.{rest}");
    }
    name.to_owned()
}

/// What published checkpoints call the tensor of this canonical name.
pub(crate) fn published(canonical: &str) -> String {
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
