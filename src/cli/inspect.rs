//! `hired inspect`: what a checkpoint is and what it will need.

use super::Stop;
use super::args::InspectArgs;
use super::output::{print, print_json};
use super::table::{Size, Table};
use hired::engine::{BudgetNeed, Inspection, typical_request};
use hired::select::Budget;
use std::fmt::{self, Display};

pub fn inspect(args: &InspectArgs) -> Result<(), Stop> {
    let selection = args.selection.with(Budget::Full);
    let inspection = hired::engine::inspect(&args.model.model, &args.device.options(), &selection)?;
    if args.json { print_json(&inspection) } else { print(&Text(&inspection).to_string()) }
}

/// An inspection for people.
struct Text<'a>(&'a Inspection);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inspection {
            architecture, parameters, dtype, bytes, kv_bytes_per_token, budgets, ..
        } = self.0;
        writeln!(f, "architecture        {architecture}")?;
        writeln!(f, "parameters          {:.1} million", *parameters as f64 / 1e6)?;
        writeln!(f, "weights             {} as {dtype}", Size(*bytes))?;
        writeln!(f, "keys and values     {kv_bytes_per_token} bytes a token")?;
        writeln!(f, "\nFor {}:", typical_request())?;
        let head = ["budget", "visual tokens", "weights", "mapped", "kv", "workspace", "peak"];
        let mut rows = vec![head.map(String::from).to_vec()];
        for need in budgets {
            let BudgetNeed { budget, visual_tokens, weights, mapped, kv, workspace, peak, .. } =
                need;
            let sizes = [weights, mapped, kv, workspace, peak].map(|&b| Size(b as u64).to_string());
            rows.push([vec![budget.clone(), visual_tokens.to_string()], sizes.to_vec()].concat());
        }
        write!(f, "{}", Table(rows))
    }
}
