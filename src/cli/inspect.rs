//! `hired inspect`: what a checkpoint is and what it will need.

use super::Stop;
use super::args::InspectArgs;
use super::output::{print, print_json};
use hired::engine::{BudgetNeed, Inspection};
use hired::select::Budget;
use std::fmt::{self, Display};

pub fn inspect(args: &InspectArgs) -> Result<(), Stop> {
    let selection = args.selection.with(Budget::Full);
    let inspection = hired::engine::inspect(&args.model.model, &args.device.options(), &selection)?;
    if args.json { print_json(&inspection) } else { print(&Table(&inspection).to_string()) }
}

/// An inspection for people.
struct Table<'a>(&'a Inspection);

impl Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inspection { architecture, parameters, dtype, bytes, kv_bytes_per_token, budgets } =
            self.0;
        writeln!(f, "architecture        {architecture}")?;
        writeln!(f, "parameters          {:.1} million", *parameters as f64 / 1e6)?;
        writeln!(f, "weights             {} as {dtype}", Size(*bytes))?;
        writeln!(f, "keys and values     {kv_bytes_per_token} bytes a token")?;
        writeln!(f, "\nA picture of 672×672 pixels and 60 tokens of text:")?;
        let head = ["budget", "visual tokens", "weights", "mapped", "kv", "workspace", "peak"];
        row(f, head.map(String::from))?;
        for need in budgets {
            let BudgetNeed { budget, visual_tokens, weights, mapped, kv, workspace, peak } = need;
            let sizes = [weights, mapped, kv, workspace, peak].map(|&b| Size(b as u64).to_string());
            let [weights, mapped, kv, workspace, peak] = sizes;
            let visual = visual_tokens.to_string();
            row(f, [budget.clone(), visual, weights, mapped, kv, workspace, peak])?;
        }
        Ok(())
    }
}

/// The first column to the left, numbers to the right.
fn row(f: &mut fmt::Formatter<'_>, [first, rest @ ..]: [String; 7]) -> fmt::Result {
    write!(f, "{first:<6}  {:>13}", rest[0])?;
    for cell in &rest[1..] {
        write!(f, "  {cell:>9}")?;
    }
    writeln!(f)
}

/// Bytes as people read them.
struct Size(u64);

impl Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        // 1023.95 would be printed as 1024.0.
        while value >= 1023.95 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        write!(f, "{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::Size;

    #[test]
    fn sizes_have_four_digits_at_most() {
        let shown: Vec<String> = [0, 1023, 1024, 1536, (1 << 20) - 1, 15 << 30, 2048 << 40]
            .map(|b| Size(b).to_string())
            .into();
        let expected = ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "15.0 GiB", "2048.0 TiB"];
        assert_eq!(shown, expected);
    }
}
