//! `hired inspect`: describes a model and its memory needs.

use super::Stop;
use super::args::InspectArgs;
use super::idle::Given;
use super::output::{note, print, print_json};
use super::table::{Size, Table};
use hired::engine::{BudgetNeed, Inspection, typical_request};
use hired::select::Budget;
use std::fmt::{self, Display};

pub fn inspect(args: &InspectArgs, given: &Given<'_>) -> Result<(), Stop> {
    let selection = args.selection.with(Budget::Full);
    let inspection = hired::engine::inspect(&args.model.model, &args.device.options(), &selection)?;
    let why = "inspect computes nothing";
    let mut notes = inspection.notes.clone();
    notes.extend(given.these(&["resample", "no_graph"], why));
    if inspection.device == "cpu" {
        notes.extend(
            given.these(&["gemm"], "the figures are for the CPU (use --device cuda for a GPU)"),
        );
    }
    notes.iter().for_each(|what| note(what));
    if args.json { print_json(&inspection) } else { print(&Text(&inspection).to_string()) }
}

/// A readable inspection.
struct Text<'a>(&'a Inspection);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let i = self.0;
        let mut line = |name: &str, value: String| writeln!(f, "{name:<18}  {value}");
        line("architecture", i.architecture.into())?;
        line("parameters", format!("{:.1} million", i.parameters as f64 / 1e6))?;
        line("weights", format!("{} as {}", Size(i.bytes), i.dtype))?;
        line(
            "language model",
            format!(
                "{} layers, hidden size {}, MLP {}, {} heads ({} key/value heads) of size {}",
                i.layers, i.hidden_size, i.intermediate_size, i.heads, i.kv_heads, i.head_dim
            ),
        )?;
        line("vocabulary", format!("{} tokens", i.vocabulary))?;
        line("context", format!("{} tokens", i.context))?;
        line("KV cache", format!("{} per token", Size(i.kv_bytes_per_token as u64)))?;
        let v = &i.vision;
        line(
            "vision tower",
            format!(
                "{} layers ({} used), hidden size {}, {} heads, {}×{} pixels in patches of {}",
                v.layers,
                v.layers_used,
                v.hidden_size,
                v.heads,
                v.image_size,
                v.image_size,
                v.patch_size
            ),
        )?;
        let grids = match &i.grids {
            None => "one centre crop, no sub-images".into(),
            Some(grids) => {
                let grids: Vec<String> =
                    grids.iter().map(|[rows, columns]| format!("{rows}×{columns}")).collect();
                format!("the full image and sub-images of {} (rows×columns)", grids.join(", "))
            }
        };
        line("image", format!("{grids}, {} tokens each", v.tokens_per_partition))?;
        line("prompt", format!("{:?}", i.template))?;
        let device = if i.device == "cpu" { "the CPU" } else { "a CUDA GPU" };
        writeln!(f, "\nMemory on {device} for {}:", typical_request())?;
        let head = ["budget", "image tokens", "weights", "mapped", "KV cache", "workspace", "peak"];
        let mut rows = vec![head.map(String::from).to_vec()];
        for need in &i.budgets {
            let BudgetNeed { budget, visual_tokens, weights, mapped, kv, workspace, peak, .. } =
                need;
            let sizes = [weights, mapped, kv, workspace, peak].map(|&b| Size(b as u64).to_string());
            rows.push([vec![budget.clone(), visual_tokens.to_string()], sizes.to_vec()].concat());
        }
        write!(f, "{}", Table(rows))
    }
}
