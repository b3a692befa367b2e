//! `config::from_json` on four files, parted by zero bytes: `config.json`, `preprocessor_config.json`,
//! `processor_config.json`, `generation_config.json`; of an absent or empty one there is no file.
//! What is let in must be safe to plan with: its weights, and the selection for pictures of any shape.

#![no_main]

use std::path::Path;

use hired::checkpoint::layout;
use hired::config::{Files, from_json};
use hired::image::{Layout, MAX_SIDE};
use hired::select::{Budget, Geometry, Method, Rule, Selection, plan};
use hired_fuzz::assert_one_line;
use libfuzzer_sys::fuzz_target;

const SIZES: [(usize, usize); 6] =
    [(1, 1), (1, MAX_SIDE), (MAX_SIDE, 1), (13_377, 13_377), (672, 671), (641, 427)];

fuzz_target!(|data: &[u8]| {
    let mut parts = data.split(|&byte| byte == 0);
    let config = parts.next().unwrap_or_default();
    let mut next = || parts.next().filter(|part| !part.is_empty());
    let (preprocessor, processor, generation) = (next(), next(), next());
    let files = Files { config, preprocessor, processor, generation };
    let config = match from_json(Path::new("folder"), &files) {
        Ok(config) => config,
        Err(e) => return assert_one_line(&e, "folder"),
    };

    let elements = layout(&config).iter().try_fold(0usize, |sum, weight| {
        let product = weight.shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side))?;
        assert_eq!(product, weight.elements());
        sum.checked_add(product)
    });
    assert!(elements.is_some_and(|n| n < 1 << 60), "{elements:?} weights");
    assert!((1..=config.vision.layers).contains(&config.feature_blocks));

    for (width, height) in SIZES {
        let layout = match Layout::new(width, height, &config.image) {
            Ok(layout) => layout,
            Err(e) => {
                assert_one_line(&e, "");
                continue;
            }
        };
        let geometry = Geometry::new(&layout, config.vision.patch_size).expect("a layout of ours");
        assert!(geometry.valid() <= geometry.partitions() * geometry.patches());
        // Merged rows stand for patches, but every partition may have one that stands for none of its own.
        let most = geometry.valid() + geometry.partitions();
        let rules = [Rule::Paper, Rule::Repo, Rule::Equal].map(|rule| (Method::Hired, rule));
        let methods = Method::ALL.iter().map(|&method| (method, Rule::Exact));
        for (method, rule) in methods.chain(rules) {
            for budget in [Budget::Count(1), Budget::Count(usize::MAX), Budget::Percent(20_000_000)]
            {
                let selection =
                    Selection::default().with_method(method).with_rule(rule).with_budget(budget);
                match plan(&geometry, &selection) {
                    Ok(plan) => assert!(plan.rows <= most, "{plan:?}"),
                    Err(e) => assert_one_line(&e, "budget"),
                }
            }
        }
    }
});
