//! What selection costs beside the model, on the geometry of LLaVA-v1.6: `cargo bench --bench select`.

use std::fmt;

use divan::{Bencher, black_box};
use hired::image::Layout;
use hired::select::{Budget, Geometry, Plan, Rule, Selection, choose, order, plan};

fn main() {
    divan::main();
}

/// A rule, and the grid of sub-images of 24×24 patches: a 672×672 picture's five partitions, and forty.
#[derive(Clone, Copy)]
struct Case {
    rule: Rule,
    grid: (usize, usize),
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} partitions", self.rule, 1 + self.grid.0 * self.grid.1)
    }
}

fn cases() -> impl Iterator<Item = Case> {
    let grids = [(2, 2), (3, 13)];
    let rules = [Rule::Exact, Rule::Paper, Rule::Repo];
    grids.into_iter().flat_map(move |grid| rules.map(|rule| Case { rule, grid }))
}

/// A fifth of the patches of a picture that fills its canvas.
fn plan_of(case: Case) -> Plan {
    let (rows, columns) = case.grid;
    let (height, width) = (rows * 336, columns * 336);
    let layout = Layout { width, height, side: 336, grid: Some(case.grid), fit: (height, width) };
    let geometry = Geometry::new(&layout, 14).unwrap();
    let budget: Budget = "20%".parse().unwrap();
    plan(&geometry, &Selection { rule: case.rule, budget, ..Selection::default() }).unwrap()
}

/// As attention has it: many small scores, few large ones.
fn scores(count: usize) -> Vec<f32> {
    let unit = |i: usize| (i * 7919 % 1999) as f32 / 1999.0;
    (0..count).map(|i| unit(i).powi(4) / 64.0).collect()
}

/// From scores to the rows' order: allocation, the best of each partition, how they enter the decoder.
#[divan::bench(args = cases())]
fn choose_and_order(bencher: Bencher, case: Case) {
    let plan = plan_of(case);
    let patches = plan.geometry.patches();
    let (init, last) = (scores(patches), scores(plan.geometry.partitions() * patches));
    bencher.bench(|| {
        let kept = choose(&plan, black_box(&init), black_box(&last)).unwrap();
        order(&plan, &kept)
    });
}
