//! Selection against an independent implementation in numpy: the cases of `golden/select.json`.

mod support;

use hired::select::*;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use support::{Picture, Scores};

#[derive(Deserialize)]
struct Case {
    #[serde(flatten)]
    picture: Picture,
    budget: String,
    alpha: String,
    rule: String,
    seed: u64,
    grid: Option<(usize, usize)>,
    valid_per_partition: Vec<usize>,
    valid: usize,
    budget_count: usize,
    allocation: Vec<usize>,
    kept: usize,
    #[serde(flatten)]
    indices: Indices,
    order: String,
}

/// Large cases give the hash of the indices' compact JSON text.
#[derive(Deserialize)]
enum Indices {
    #[serde(rename = "kept_indices")]
    Listed(Vec<Vec<u32>>),
    #[serde(rename = "kept_indices_sha256")]
    Hashed(String),
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn selections_equal_those_of_the_reference() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/golden/select.json");
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() >= 50, "only {} cases", cases.len());
    for (number, case) in cases.iter().enumerate() {
        let name = format!("case {number}: {} {} at {}", case.rule, case.budget, case.alpha);
        let geometry = case.picture.geometry();
        let (partitions, patches) = (geometry.partitions(), geometry.patches());
        assert_eq!(geometry.grid(), case.grid, "{name}");
        let valid: Vec<usize> = (0..partitions).map(|i| geometry.valid_in(i)).collect();
        assert_eq!(valid, case.valid_per_partition, "{name}");
        assert_eq!(geometry.valid(), case.valid, "{name}");

        let selection = Selection::default()
            .with_budget(case.budget.parse().unwrap())
            .with_alpha(case.alpha.parse().unwrap())
            .with_rule(case.rule.parse().unwrap());
        let plan = plan(&geometry, &selection).unwrap();
        assert_eq!(plan.budget, case.budget_count, "{name}");
        let mut scores = Scores(case.seed);
        let (init, final_scores) = (scores.take(patches), scores.take(partitions * patches));
        let kept = choose(&plan, &Evidence::scores(&init, &final_scores)).unwrap();
        assert_eq!((&kept.allocation, kept.count()), (&case.allocation, case.kept), "{name}");
        match &case.indices {
            Indices::Listed(indices) => assert_eq!(&kept.indices, indices, "{name}"),
            Indices::Hashed(hash) => {
                let text = serde_json::to_string(&kept.indices).unwrap();
                assert_eq!(&sha256(text.as_bytes()), hash, "{name}");
            }
        }

        let places = order(&plan, &kept).into_iter().filter_map(|slot| match slot {
            Slot::Patch { partition, patch } => Some(partition * patches + patch as usize),
            Slot::Newline | Slot::Merged(_) => None,
        });
        let places: Vec<u8> = places.flat_map(|place| (place as i64).to_le_bytes()).collect();
        assert_eq!(sha256(&places), case.order, "{name}");
    }
}
