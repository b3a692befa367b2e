//! Selects the highest scores.

/// The `count` candidates with the highest scores, ties to the lower candidate, in ascending order; all of them if
/// there are fewer. `candidates` are indices of finite `scores`.
pub(crate) fn highest(
    scores: &[f32],
    candidates: impl IntoIterator<Item = usize>,
    count: usize,
) -> Vec<u32> {
    let mut ranked: Vec<usize> = candidates.into_iter().collect();
    // Adding 0 turns −0 into 0, because the total order of floats would rank them differently.
    let rank = |i: usize| scores[i] + 0.0;
    ranked.sort_unstable_by(|&a, &b| rank(b).total_cmp(&rank(a)).then(a.cmp(&b)));
    ranked.truncate(count);
    ranked.sort_unstable();
    ranked.into_iter().map(|i| i as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::highest;

    #[test]
    fn ties_go_to_the_lower_candidate() {
        let scores = [1.0, 3.0, 2.0, 3.0, 3.0, -0.0, 0.0];
        assert_eq!(highest(&scores, 0..7, 2), [1, 3]);
        assert_eq!(highest(&scores, 0..7, 4), [1, 2, 3, 4]);
        assert_eq!(highest(&scores, [6, 5], 1), [5]);
        assert_eq!(highest(&scores, [6, 4, 0], 2), [0, 4]);
        assert_eq!(highest(&scores, 0..2, 9), [0, 1]);
        assert!(highest(&scores, 0..7, 0).is_empty());
    }
}
