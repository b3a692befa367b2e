//! `hired quantize`: writes a copy of a model folder with integer weights.

use super::interrupt::Interrupt;
use super::output::{print, print_json};
use super::values::{self, NumberFormat};
use super::{Stop, progress};
use clap::Args;
use hired::quant::{self, Scheme, Scope};
use serde_json::json;
use std::ops::ControlFlow;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct QuantizeArgs {
    /// Hugging Face folder with weights in f16, bf16 or f32
    #[arg(short, long, value_name = "DIR")]
    model: PathBuf,
    /// Folder to write, new or empty
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// q8: int8 weights, one scale per output row; q4: int4 weights, one scale per group of inputs
    #[arg(long, value_name = "T", value_parser = values::one_of(&values::INTEGERS))]
    dtype: NumberFormat,
    /// Weights per group that share a scale in q4 [default: 128]
    #[arg(long, value_name = "N", value_parser = values::one_of(&values::GROUPS))]
    group: Option<usize>,
    /// Layers to quantise. llm: linear layers of the decoder; all: also the projector, the logits head and, with q8,
    /// the vision tower
    #[arg(long, value_name = "WHAT", default_value = "llm", value_parser = values::one_of(&values::SCOPES))]
    quantize: Scope,
    /// Print a summary as JSON
    #[arg(long)]
    json: bool,
}

pub fn quantize(args: &QuantizeArgs, interrupt: &Interrupt) -> Result<(), Stop> {
    if args.dtype == NumberFormat::Q8 && args.group.is_some() {
        let what = "--group is for --dtype q4: q8 has one scale for each row";
        return Err(Stop::Usage(what.into()));
    }
    let scope = args.quantize;
    let scheme = args.dtype.scheme(args.group).expect("both are integers");
    interrupt.heed();
    let bar = progress::bytes(format!("{scheme}"));
    let done = quant::quantize(&args.model, &args.out, scheme, scope, &mut |done, all| {
        bar.set_length(all);
        bar.set_position(done);
        if interrupt.raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    let done = done?;
    if args.json {
        let group = match scheme {
            Scheme::Q4 { group } => Some(group),
            Scheme::Q8 => None,
        };
        return print_json(&json!({
            "schema": 1,
            "out": args.out, "dtype": scheme.name(), "group": group, "quantize": scope.name(),
            "quantized": done.quantized, "copied": done.copied,
            "bytes_before": done.bytes_before, "bytes_after": done.bytes_after,
        }));
    }
    let gb = |bytes: u64| bytes as f64 / 1e9;
    print(&format!(
        "{}: {scheme}, {} linear layers quantised, {} tensors copied, {:.3} GB before, {:.3} GB after\n",
        args.out.display(),
        done.quantized,
        done.copied,
        gb(done.bytes_before),
        gb(done.bytes_after)
    ))
}
