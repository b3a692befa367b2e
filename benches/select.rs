//! Time of selection on the host, on the geometry of LLaVA-v1.6: `cargo bench --bench select`.

use std::fmt;

use divan::{Bencher, black_box};
use hired::image::{Layout, Packing};
use hired::select::{
    Budget, Evidence, Geometry, Matrix, Method, Plan, Rule, Selection, choose, order, plan,
};

fn main() {
    divan::main();
}

/// A rule, and a grid of sub-images of 24×24 patches: that of a 672×672 image with five partitions, or of forty.
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

/// A plan that keeps a fifth of the patches of an image that fills its canvas.
fn plan_of(grid: (usize, usize), selection: Selection) -> Plan {
    let (height, width) = (grid.0 * 336, grid.1 * 336);
    let layout = Layout {
        width,
        height,
        side: 336,
        grid: Some(grid),
        fit: (height, width),
        packing: Packing::Canvas,
    };
    let geometry = Geometry::new(&layout, 14).unwrap();
    let budget: Budget = "20%".parse().unwrap();
    plan(&geometry, &selection.with_budget(budget)).unwrap()
}

/// Scores distributed like attention: many small ones, few large ones.
fn scores(count: usize) -> Vec<f32> {
    let unit = |i: usize| (i * 7919 % 1999) as f32 / 1999.0;
    (0..count).map(|i| unit(i).powi(4) / 64.0).collect()
}

/// A whole selection from scores: allocation, the best patches of each partition, and the decoder's order.
#[divan::bench(args = cases())]
fn choose_and_order(bencher: Bencher, case: Case) {
    let plan = plan_of(case.grid, Selection::default().with_rule(case.rule));
    let patches = plan.geometry.patches();
    let (init, last) = (scores(patches), scores(plan.geometry.partitions() * patches));
    bencher.bench(|| {
        let kept = choose(&plan, &Evidence::scores(black_box(&init), black_box(&last))).unwrap();
        order(&plan, &kept)
    });
}

/// The host's part of every method on a 672×672 image, with the widths of LLaVA-v1.6-vicuna-7b.
#[divan::bench(args = Method::ALL, sample_count = 10)]
fn choose_by_method(bencher: Bencher, method: Method) {
    let plan = plan_of((2, 2), Selection::default().with_method(method));
    let (partitions, patches) = (plan.geometry.partitions(), plan.geometry.patches());
    let (init, last) = (scores(patches), scores(partitions * patches));
    // Neighbouring rows are similar, as in a real image.
    let rows = |count: usize, cols: usize| -> Vec<f32> {
        (0..count * cols).map(|i| ((i / cols) as f32 * 0.01 + (i % cols) as f32).sin()).collect()
    };
    let (tower, decoder) = (1024, 4096);
    let all = partitions * (patches + 1);
    let (queries, keys) = (rows(partitions, tower), rows(all, tower));
    let (features, projected) = (rows(all, tower), rows(plan.geometry.valid(), decoder));
    let matrix = |numbers, cols| Matrix { numbers, cols };
    let evidence = Evidence {
        init: &init,
        last: &last,
        queries: matrix(&queries, tower),
        keys: matrix(&keys, tower),
        heads: 16,
        features: matrix(&features, tower),
        projected: matrix(&projected, decoder),
    };
    bencher.bench(|| choose(&plan, black_box(&evidence)).unwrap());
}
