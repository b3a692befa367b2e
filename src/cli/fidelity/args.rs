//! Options of `hired fidelity`.

use crate::cli::Stop;
use crate::cli::args::{DeviceArgs, ModelArgs};
use crate::cli::eval::Metric;
use crate::cli::selection::SelectionArgs;
use crate::cli::values::{self, TypedBudget};
use clap::Args;
use hired::config::ModelFolder;
use hired::engine::{Dtype, Engine, EngineOptions};
use hired::quant::Scheme;
use hired::select::Selection;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct FidelityArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Folder of the reference model, computed in f32 [default: the folder of --model]
    #[arg(long, value_name = "DIR")]
    reference: Option<PathBuf>,
    /// JSON lines: {"image": path relative to this file, "prompt": text, "answer": text or [texts]}
    #[arg(long, value_name = "FILE.jsonl")]
    pub questions: PathBuf,
    /// Ask only the first N questions
    #[arg(long, value_name = "N", default_value = "100", allow_hyphen_values = true, value_parser = values::count)]
    pub limit: usize,
    /// Largest number of tokens to compare per answer of the reference
    #[arg(long, value_name = "N", default_value = "16", allow_hyphen_values = true, value_parser = values::count)]
    pub max_new_tokens: usize,
    /// Budgets, each a count (576), a share of all patches (20%) or full
    #[arg(
        long,
        visible_alias = "budget",
        value_name = "B,…",
        value_delimiter = ',',
        default_value = "full,20%",
        allow_hyphen_values = true
    )]
    budgets: Vec<TypedBudget>,
    /// Metric for scoring answers
    #[arg(long, value_enum, default_value_t = Metric::Exact)]
    pub metric: Metric,
    /// Print an array with one object per budget
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// The options for loading both models.
pub struct BothOptions {
    pub reference: EngineOptions,
    pub compared: EngineOptions,
}

/// Number format of the compared model, for the report.
pub struct Numbers {
    pub dtype: String,
    pub group: Option<usize>,
    pub quantize: Option<&'static str>,
}

impl FidelityArgs {
    /// The reference's folder and the options for loading both models.
    pub fn models(&self) -> Result<(PathBuf, BothOptions), Stop> {
        let compared = self.device.options();
        let mut reference = compared.clone().with_dtype(Some(Dtype::F32));
        reference.quantization = None;
        let folder = match &self.reference {
            Some(folder) => folder.clone(),
            None => {
                let model = ModelFolder::open(&self.model.model)?;
                if let Some(packing) = model.config.quantization {
                    let what = format!(
                        "{}: all its weights are {packing}: give the folder that it was made from as --reference",
                        self.model.model.display()
                    );
                    return Err(Stop::Failed(what));
                }
                if compared.quantization.is_none() && compared.dtype != Some(Dtype::F16) {
                    let what =
                        "the reference is f32 too: give --dtype f16, q8 or q4, or --reference";
                    return Err(Stop::Usage(what.into()));
                }
                self.model.model.clone()
            }
        };
        Ok((folder, BothOptions { reference, compared }))
    }

    /// The number formats of the compared model.
    pub fn numbers(&self, engine: &Engine) -> Numbers {
        let quantization = self.device.options().quantization;
        let stored = engine.config().quantization;
        let group = match quantization.map(|q| q.scheme) {
            Some(Scheme::Q4 { group }) => Some(group),
            _ => None,
        };
        Numbers {
            dtype: stored.map_or_else(
                || self.device.dtype_name(engine.card().is_some()).into(),
                |packing| packing.to_string(),
            ),
            group,
            quantize: quantization.map(|q| q.scope.name()),
        }
    }

    /// The budgets as given on the command line.
    pub fn budgets(&self) -> impl Iterator<Item = &str> {
        self.budgets.iter().map(|budget| budget.typed.as_str())
    }

    /// A selection for each budget.
    pub fn selections(&self) -> Vec<Selection> {
        self.budgets.iter().map(|budget| self.selection.with(budget.budget)).collect()
    }
}
