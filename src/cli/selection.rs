//! Options for the method and its parameters.

use super::args::heading;
use super::values;
use clap::Args;
use hired::select::{
    Alpha, Budget, Counting, Factor, Heads, Method, Newlines, Rule, Score, Selection, Spacing,
    Tuning,
};

/// Options for how image tokens are chosen.
#[derive(Debug, Args)]
#[command(next_help_heading = heading::TOKENS)]
pub struct SelectionArgs {
    /// Method that chooses the image tokens: hired, full (keep all), fastervlm, prumerge, prumerge+, visionzip,
    /// divprune, scope, globalcom2, fastv (inside the language model, depending on the question), and the baselines
    /// spatial (evenly spaced patches) and random
    #[arg(long, value_name = "NAME", default_value_t)]
    pub method: Method,
    /// How hired allots tokens to partitions: exact (exactly the budget), paper or repo (as published), equal (the
    /// same number for every partition)
    #[arg(hide_short_help = true, long, value_name = "NAME", default_value_t)]
    pub rule: Rule,
    /// The full image's share of the budget, 0 to 1
    #[arg(
        hide_short_help = true,
        long,
        value_name = "A",
        default_value_t,
        allow_hyphen_values = true
    )]
    pub alpha: Alpha,
    /// Vision layer whose CLS attention splits the budget among the sub-images; negative counts from the end
    #[arg(hide_short_help = true, long, value_name = "L", default_value = "0", allow_hyphen_values = true, value_parser = values::layer)]
    init_layer: i32,
    /// Vision layer whose CLS attention ranks the patches; negative counts from the end
    /// [default: the last layer that the model's image features need]
    #[arg(hide_short_help = true, long, value_name = "L", allow_hyphen_values = true, value_parser = values::layer)]
    final_layer: Option<i32>,
    /// How the attention heads of these layers are combined: sum, mean, max or the number of one head
    #[arg(
        hide_short_help = true,
        long,
        value_name = "HOW",
        default_value_t,
        allow_hyphen_values = true
    )]
    heads: Heads,
    /// Encode the full image first, and then only the sub-images with at least a quarter of their tokens in the
    /// budget (method hired with rule exact; InternVL). The kept tokens differ from those of encoding all
    #[arg(hide_short_help = true, long)]
    lazy_tiles: bool,
    /// What a patch's score is made of: cls (the class token's attention), received (the attention that the patch
    /// receives, as the mean over all patches) or head (the attention of SigLIP's pooling head to the patch, behind the last
    /// layer; for folders that hold it) [default: cls where the vision tower has a class token, else received]
    #[arg(hide_short_help = true, long, value_name = "NAME")]
    score: Option<Score>,
    /// Row separators (image_newline tokens): all or none. They count towards the budget with fastv only [default:
    /// all with the budget full and with fastv, otherwise none]
    #[arg(hide_short_help = true, long, value_name = "W")]
    newlines: Option<Newlines>,
    /// random: seed of the random choice
    #[arg(hide_short_help = true, long, value_name = "S", default_value = "0", allow_hyphen_values = true, value_parser = values::whole::<u64>, help_heading = heading::METHODS)]
    drop_seed: u64,
    #[command(flatten)]
    pub tuning: TuningArgs,
}

/// Parameters of individual methods.
#[derive(Debug, Args)]
#[command(next_help_heading = heading::METHODS)]
pub struct TuningArgs {
    /// spatial: even (exactly the budget, evenly spaced among the patches without padding) or stride (every n-th
    /// patch of each partition, as in HiRED's published code: up to twice the budget)
    #[arg(hide_short_help = true, long, value_name = "NAME", default_value_t)]
    spatial: Spacing,
    /// prumerge, prumerge+: number of tokens to keep: adaptive (the outliers, at most the budget) or budget (allotted
    /// as with hired)
    #[arg(hide_short_help = true, long, value_name = "NAME", default_value_t)]
    prumerge_count: Counting,
    /// prumerge, prumerge+: number of patches merged into each kept one
    #[arg(hide_short_help = true, long, value_name = "N", default_value_t = Tuning::default().neighbours, allow_hyphen_values = true, value_parser = values::whole::<usize>)]
    neighbours: usize,
    /// prumerge, prumerge+: outlier threshold F: keep patches with attention above Q3 + F·IQR
    #[arg(hide_short_help = true, long, value_name = "F", default_value_t = Tuning::default().outliers, allow_hyphen_values = true)]
    outliers: Factor,
    /// visionzip: share of contextual tokens among the tokens of each partition, 0 to 1
    #[arg(hide_short_help = true, long, value_name = "A", default_value_t = Tuning::default().contextual, allow_hyphen_values = true)]
    contextual: Alpha,
    /// scope: exponent of the attention
    #[arg(hide_short_help = true, long, value_name = "F", default_value_t = Tuning::default().saliency, allow_hyphen_values = true)]
    saliency: Factor,
    /// prumerge, prumerge+, visionzip, globalcom2: vision layer whose keys are compared; negative counts from the end
    /// [default: the last; for visionzip the last that the image features need]
    #[arg(hide_short_help = true, long, value_name = "L", allow_hyphen_values = true, value_parser = values::layer)]
    key_layer: Option<i32>,
    /// fastv: number of language model layers that see every image token, at least 1
    #[arg(hide_short_help = true, long, value_name = "K", default_value_t = Tuning::default().fastv_layer, allow_hyphen_values = true, value_parser = values::whole::<usize>)]
    fastv_layer: usize,
}

impl TuningArgs {
    /// The parameters for the library.
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
    /// The selection with this budget.
    pub fn with(&self, budget: Budget) -> Selection {
        Selection::default()
            .with_method(self.method)
            .with_budget(budget)
            .with_rule(self.rule)
            .with_alpha(self.alpha)
            .with_init_layer(self.init_layer)
            .with_final_layer(self.final_layer)
            .with_heads(self.heads)
            .with_score(self.score)
            .with_seed(self.drop_seed)
            .with_tuning(self.tuning.tuning())
            .with_lazy_tiles(self.lazy_tiles)
            .with_newlines(self.newlines)
    }
}
