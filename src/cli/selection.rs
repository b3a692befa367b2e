//! Options that choose a method and its parameters.

use super::values;
use clap::Args;
use hired::select::{
    Alpha, Budget, Counting, Factor, Heads, Method, Newlines, Rule, Selection, Spacing, Tuning,
};

/// Options that say how visual tokens are chosen, whatever their number.
#[derive(Debug, Args)]
#[command(next_help_heading = "Visual tokens")]
pub struct SelectionArgs {
    /// Token-dropping method: hired, full to keep everything, spatial (patches at even distances), random, fastervlm,
    /// prumerge, prumerge+, visionzip, divprune, scope, or fastv (inside the language model, by the question)
    #[arg(long, value_name = "NAME", default_value_t)]
    pub method: Method,
    /// How HiRED counts: exact (exactly the budget), paper or repo (as published), equal (every partition as many)
    #[arg(long, value_name = "NAME", default_value_t)]
    pub rule: Rule,
    /// The full image's share of the budget, 0 to 1
    #[arg(long, value_name = "A", default_value_t, allow_hyphen_values = true)]
    pub alpha: Alpha,
    /// Vision layer whose CLS attention scores content; negative counts from the end
    #[arg(long, value_name = "L", default_value = "0", allow_hyphen_values = true, value_parser = values::layer)]
    init_layer: i32,
    /// Vision layer whose CLS attention scores importance; negative counts from the end
    /// [default: the last layer the features need]
    #[arg(long, value_name = "L", allow_hyphen_values = true, value_parser = values::layer)]
    final_layer: Option<i32>,
    /// How the heads of these layers become one score: sum, mean, max or the number of one head
    #[arg(long, value_name = "HOW", default_value_t, allow_hyphen_values = true)]
    heads: Heads,
    /// Of the method random: same seed, same patches
    #[arg(long, value_name = "S", default_value = "0", allow_hyphen_values = true)]
    drop_seed: u64,
    /// image_newline tokens, which only the budget of fastv counts: all or none [default: all at full budget and with fastv, else none]
    #[arg(long, value_name = "W")]
    newlines: Option<Newlines>,
    #[command(flatten)]
    pub tuning: TuningArgs,
}

/// Parameters of single methods.
#[derive(Debug, Args)]
#[command(next_help_heading = "Parameters of methods")]
pub struct TuningArgs {
    /// Which patches spatial keeps: even (exactly the budget, at even distances among those that show the picture) or
    /// stride (every so many-th of each partition, as HiRED's published code does: up to twice the budget)
    #[arg(long, value_name = "NAME", default_value_t)]
    spatial: Spacing,
    /// How many tokens prumerge and prumerge+ keep: adaptive (as many as stand out, together at most the budget) or
    /// budget (shared out as hired does)
    #[arg(long, value_name = "NAME", default_value_t)]
    prumerge_count: Counting,
    /// Of prumerge, prumerge+: patches merged into each kept one
    #[arg(long, value_name = "N", default_value_t = Tuning::default().neighbours, allow_hyphen_values = true)]
    neighbours: usize,
    /// Of prumerge, prumerge+: attention stands out that is so many times the distance of the quartiles above the third
    #[arg(long, value_name = "F", default_value_t = Tuning::default().outliers, allow_hyphen_values = true)]
    outliers: Factor,
    /// Of visionzip: the contextual tokens' share of each partition's tokens, 0 to 1
    #[arg(long, value_name = "A", default_value_t = Tuning::default().contextual, allow_hyphen_values = true)]
    contextual: Alpha,
    /// Of scope: the exponent of attention
    #[arg(long, value_name = "F", default_value_t = Tuning::default().saliency, allow_hyphen_values = true)]
    saliency: Factor,
    /// Of prumerge, prumerge+ and visionzip: vision layer whose keys say what is alike; negative counts from the end
    /// [default: the last, for visionzip the last that the features need]
    #[arg(long, value_name = "L", allow_hyphen_values = true, value_parser = values::layer)]
    key_layer: Option<i32>,
    /// Of fastv: the language model's layers that see every visual token, at least 1
    #[arg(long, value_name = "K", default_value_t = Tuning::default().fastv_layer)]
    fastv_layer: usize,
}

impl TuningArgs {
    /// As the library takes them.
    pub fn tuning(&self) -> Tuning {
        Tuning::default()
            .with_spatial(self.spatial)
            .with_prumerge(self.prumerge_count)
            .with_neighbours(self.neighbours)
            .with_outliers(self.outliers)
            .with_contextual(self.contextual)
            .with_saliency(self.saliency)
            .with_key_layer(self.key_layer)
            .with_fastv_layer(self.fastv_layer)
    }
}

impl SelectionArgs {
    /// The selection with a budget.
    pub fn with(&self, budget: Budget) -> Selection {
        Selection::default()
            .with_method(self.method)
            .with_budget(budget)
            .with_rule(self.rule)
            .with_alpha(self.alpha)
            .with_init_layer(self.init_layer)
            .with_final_layer(self.final_layer)
            .with_heads(self.heads)
            .with_seed(self.drop_seed)
            .with_tuning(self.tuning.tuning())
            .with_newlines(self.newlines)
    }
}
