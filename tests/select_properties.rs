//! What holds for every selection, on random images, budgets and scores.

mod support;

use hired::image::Layout;
use hired::select::*;
use proptest::prelude::*;
use support::{GRIDS, Scores, layout, one_crop, pinpoints};

#[derive(Debug, Clone)]
struct Case {
    layout: Layout,
    patch_size: usize,
    selection: Selection,
    init: Vec<f32>,
    final_scores: Vec<f32>,
}

fn layouts() -> impl Strategy<Value = (Layout, usize)> {
    // Square-ish, thin and tiny pictures alike; an n of 1 to 24, odd ones too.
    let length = prop_oneof![1usize..4, 1usize..60, 1usize..3000];
    let shape =
        prop::sample::select(vec![(7, 7), (28, 7), (42, 14), (70, 14), (112, 14), (336, 14)]);
    let canvases = prop_oneof![
        4 => Just(GRIDS.to_vec()),
        1 => prop::collection::vec((1usize..5, 1usize..5), 1..4),
        1 => Just(Vec::new()),
    ];
    (length.clone(), length, shape, canvases).prop_map(|(width, height, (side, patch), grids)| {
        let canvases: Vec<_> = grids.iter().map(|&(gh, gw)| (gh * side, gw * side)).collect();
        if canvases.is_empty() {
            return (one_crop(width, height, side), patch);
        }
        // A picture so thin that it has no pixel on any of a few canvases takes one of the usual five.
        let best = layout(width, height, side, &canvases);
        let usual = || layout(width, height, side, &pinpoints(side));
        (if best.grid == Some((0, 0)) { usual() } else { best }, patch)
    })
}

fn selections() -> impl Strategy<Value = Selection> {
    let budget = prop_oneof![
        (1usize..40).prop_map(Budget::Count),
        (1usize..4000).prop_map(Budget::Count),
        (2_000_000u32..=100_000_000).prop_map(Budget::Percent),
        Just(Budget::Full),
    ];
    let alpha = prop_oneof![Just(0.0), Just(0.5), Just(1.0), 0.0..=1.0f64]
        .prop_map(|alpha| format!("{alpha:.6}").parse::<Alpha>().unwrap());
    let rule = prop::sample::select(vec![Rule::Exact, Rule::Paper, Rule::Repo, Rule::Equal]);
    let newlines = prop::sample::select(vec![None, Some(Newlines::All), Some(Newlines::None)]);
    let method = prop_oneof![
        3 => Just(Method::Hired),
        1 => Just(Method::Spatial),
        1 => Just(Method::Random),
    ];
    (method, budget, alpha, rule, newlines, any::<u64>()).prop_map(
        |(method, budget, alpha, rule, newlines, seed)| {
            Selection::default()
                .with_method(method)
                .with_budget(budget)
                .with_alpha(alpha)
                .with_rule(rule)
                .with_newlines(newlines)
                .with_seed(seed)
        },
    )
}

/// Scores of four kinds: all different, few levels with many ties, content at a few places only, none at all.
fn cases() -> impl Strategy<Value = Case> {
    (layouts(), selections(), any::<u64>(), 0u8..4).prop_map(
        |((layout, patch_size), selection, seed, kind)| {
            let patches = (layout.side / patch_size).pow(2);
            let partitions = 1 + layout.grid.map_or(0, |(gh, gw)| gh * gw);
            let mut scores = Scores(seed);
            let mut take = |count| -> Vec<f32> {
                let shape = |x: f32| match kind {
                    0 => x,
                    1 => (x * 256.0).floor() / 256.0,
                    2 => (x - 0.014).max(0.0),
                    _ => 0.0,
                };
                scores.take(count).into_iter().map(shape).collect()
            };
            let (init, final_scores) = (take(patches), take(partitions * patches));
            Case { layout, patch_size, selection, init, final_scores }
        },
    )
}

/// Plan and choice; `None` for a share that comes to no token.
fn select(case: &Case) -> Option<(Plan, Kept)> {
    let geometry = Geometry::new(&case.layout, case.patch_size).unwrap();
    let plan = plan(&geometry, &case.selection).ok()?;
    let kept = choose(&plan, &Evidence::scores(&case.init, &case.final_scores)).unwrap();
    Some((plan, kept))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_picture_is_shared_out_without_loss((layout, patch_size) in layouts()) {
        let geometry = Geometry::new(&layout, patch_size).unwrap();
        let n = geometry.side();
        let partitions = geometry.partitions();
        let valid: Vec<usize> = (0..partitions).map(|i| geometry.valid_in(i)).collect();
        prop_assert_eq!(valid.iter().sum::<usize>(), geometry.valid());
        prop_assert_eq!(valid[0], n * n);
        for (i, &valid) in valid.iter().enumerate() {
            prop_assert_eq!((0..n * n).filter(|&patch| geometry.is_valid(i, patch)).count(), valid);
        }
        let Some((gh, gw)) = layout.grid else { return Ok(()) };
        let lengths = [(geometry.row_shares(), gh, layout.fit.0), (geometry.col_shares(), gw, layout.fit.1)];
        for (shares, strips, length) in lengths {
            prop_assert_eq!(shares.len(), strips);
            for j in 0..n {
                prop_assert_eq!(shares.iter().map(|strip| strip[j]).sum::<u64>(), length as u64);
            }
        }
    }

    #[test]
    fn no_rule_exceeds_its_budget(case in cases()) {
        let Some((plan, kept)) = select(&case) else { return Ok(()) };
        let geometry = &plan.geometry;
        let allotted: usize = kept.allocation.iter().sum();
        prop_assert!(allotted <= plan.budget);
        prop_assert!(kept.count() <= plan.rows && plan.rows <= plan.budget.min(geometry.valid()));
        prop_assert_eq!(kept.indices.len(), geometry.partitions());
        prop_assert_eq!(kept.allocation.len(), geometry.partitions());
        for (i, indices) in kept.indices.iter().enumerate() {
            prop_assert!(indices.is_sorted_by(|a, b| a < b));
            prop_assert!(indices.iter().all(|&patch| geometry.is_valid(i, patch as usize)));
            prop_assert!(indices.len() <= kept.allocation[i]);
        }
        if plan.is_exact() {
            prop_assert_eq!(kept.count(), plan.rows);
        }
        if plan.ranking().is_none_or(|r| matches!(r.rule, Rule::Exact | Rule::Equal)) {
            prop_assert_eq!(kept.count(), plan.budget.min(geometry.valid()));
            prop_assert_eq!(allotted, kept.count());
        }
    }

    #[test]
    fn each_partition_keeps_its_highest_scores(case in cases()) {
        let Some((plan, kept)) = select(&case) else { return Ok(()) };
        if matches!(case.selection.method, Method::Spatial | Method::Random) {
            return Ok(());
        }
        let patches = plan.geometry.patches();
        for (i, indices) in kept.indices.iter().enumerate() {
            let scores = &case.final_scores[i * patches..][..patches];
            let dropped = |p: &usize| {
                plan.geometry.is_valid(i, *p) && !indices.contains(&(*p as u32))
            };
            // The lowest that stays outranks the highest that goes; between equals the lower position does.
            let rank = |p: usize| (scores[p], std::cmp::Reverse(p));
            let lowest = indices.iter().map(|&p| rank(p as usize)).min_by(|a, b| a.partial_cmp(b).unwrap());
            let highest = (0..patches).filter(dropped).map(rank).max_by(|a, b| a.partial_cmp(b).unwrap());
            if let (Some(lowest), Some(highest)) = (lowest, highest) {
                prop_assert!(plan.ranking().is_some() && lowest > highest);
            }
        }
    }

    /// Shares by valid patches, at distances that differ by one at most.
    #[test]
    fn spatial_is_even(case in cases()) {
        let selection = case.selection.clone().with_method(Method::Spatial);
        let Some((plan, kept)) = select(&Case { selection, ..case.clone() }) else { return Ok(()) };
        let geometry = &plan.geometry;
        for (i, indices) in kept.indices.iter().enumerate() {
            let valid: Vec<u32> =
                (0..geometry.patches()).filter(|&p| geometry.is_valid(i, p)).map(|p| p as u32).collect();
            let share = (valid.len() * plan.rows) as f64 / geometry.valid() as f64;
            prop_assert!((indices.len() as f64 - share).abs() < 1.0, "{} for {share}", indices.len());
            let places: Vec<usize> =
                indices.iter().map(|p| valid.binary_search(p).unwrap()).collect();
            let steps: Vec<usize> = places.windows(2).map(|pair| pair[1] - pair[0]).collect();
            if let (Some(least), Some(most)) = (steps.iter().min(), steps.iter().max()) {
                prop_assert!(most - least <= 1, "{steps:?}");
            }
        }
    }

    /// Against the definition: q = min(V, λ·s), with λ found by bisection instead of rounds.
    #[test]
    fn exact_quotas_are_proportional_up_to_the_cap(case in cases()) {
        let selection = case.selection.clone().with_rule(Rule::Exact);
        let Some((plan, kept)) = select(&Case { selection, ..case.clone() }) else { return Ok(()) };
        let geometry = &plan.geometry;
        let n = geometry.side();
        let mass = |t: usize| (f64::from(case.init[t]) * f64::from(1 << 24)).round_ties_even();
        let mut content = Vec::new();
        for r in geometry.row_shares() {
            for c in geometry.col_shares() {
                content.push((0..n * n).map(|t| r[t / n] as f64 * c[t % n] as f64 * mass(t)).sum::<f64>());
            }
        }
        let valid: Vec<f64> = (1..geometry.partitions()).map(|i| geometry.valid_in(i) as f64).collect();
        let holds: f64 = content.iter().zip(&valid).filter(|(s, _)| **s > 0.0).map(|(_, v)| v).sum();
        let Some(ranking) = plan.ranking() else { return Ok(()) };
        let tokens = ranking.sub_images as f64;
        if holds < tokens {
            return Ok(());
        }
        let quotas = |lambda: f64| content.iter().zip(&valid).map(move |(s, v)| v.min(lambda * s));
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..200 {
            let middle = (low + high) / 2.0;
            if quotas(middle).sum::<f64>() < tokens { low = middle } else { high = middle }
        }
        for (i, quota) in quotas(high).enumerate() {
            let given = kept.allocation[i + 1] as f64;
            prop_assert!((given - quota).abs() < 1.0 + 1e-6, "{given} for {quota}");
        }
    }

    #[test]
    fn the_order_is_the_canvas_row_by_row(case in cases()) {
        let Some((plan, kept)) = select(&case) else { return Ok(()) };
        let geometry = &plan.geometry;
        let (n, gw) = (geometry.side(), geometry.grid().map_or(1, |(_, gw)| gw));
        let slots = order(&plan, &kept);
        prop_assert_eq!(slots.len(), kept.count() + plan.newlines);
        let asked = case.selection.newlines.unwrap_or(match case.selection.budget {
            Budget::Full => Newlines::All,
            _ => Newlines::None,
        });
        let rows = if asked == Newlines::All { geometry.rows().len() } else { 0 };
        prop_assert_eq!(plan.newlines, rows);
        let mut row = geometry.rows().start;
        let mut last = None;
        let mut arriving = vec![Vec::new(); geometry.partitions()];
        for slot in slots {
            match slot {
                Slot::Newline => row += 1,
                Slot::Merged(_) => prop_assert!(false, "none of these methods merges"),
                Slot::Patch { partition, patch } => {
                    let (y, x) = (patch as usize / n, patch as usize % n);
                    let place = match partition.checked_sub(1) {
                        None => (0, y, x),
                        Some(sub) => (1, sub / gw * n + y, sub % gw * n + x),
                    };
                    prop_assert!(last < Some(place), "{:?} after {:?}", place, last);
                    prop_assert!(plan.newlines == 0 || partition == 0 || place.1 == row);
                    last = Some(place);
                    arriving[partition].push(patch);
                }
            }
        }
        arriving.iter_mut().for_each(|patches| patches.sort_unstable());
        prop_assert_eq!(arriving, kept.indices);
    }

    #[test]
    fn decimals_are_rounded_exactly(whole in 0u64..100, digits in "[0-9]{1,30}") {
        // Half to even, on the digits as a whole number of 10^-30.
        let value = whole as u128 * 10u128.pow(30) + format!("{digits:0<30}").parse::<u128>().unwrap();
        let unit = 10u128.pow(24);
        let (floor, rest) = (value / unit, value % unit);
        let up = rest > unit / 2 || (rest == unit / 2 && floor % 2 == 1);
        let expected = (floor + u128::from(up)) as u32;
        let parsed = format!("{whole}.{digits}%").parse::<Budget>().ok();
        prop_assert_eq!(parsed, (expected > 0).then_some(Budget::Percent(expected)));
    }
}
