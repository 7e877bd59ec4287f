use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::flow::mix;

type Names = Top<Box<str>>;

fn add(top: &mut Names, value: u64, count: u64) {
    top.add(mix(value + 1), count, || value.to_string().into());
}

fn of(values: impl IntoIterator<Item = (u64, u64)>) -> Names {
    let mut top = Names::default();
    values.into_iter().for_each(|(value, count)| add(&mut top, value, count));
    top
}

fn bytes(top: &Names) -> usize {
    top.labels.iter().map(|(_, label)| label.len()).sum()
}

#[test]
fn is_exact_up_to_the_bound_and_breaks_ties_by_name() {
    let top = of((0..EXACT as u64).map(|value| (value, if value < 3 { 9 } else { 1 })));
    let entries = top.entries();
    assert_eq!(entries.len(), 10);
    assert!(entries.iter().all(|entry| entry.error.is_none()));
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["0", "1", "2", "10", "100", "1000", "1001", "1002", "1003", "1004"]);
}

#[test]
fn labels_stay_bounded() {
    let top = of((0..100_000).map(|value| (value, 1)));
    assert!(top.labels.iter().count() <= 2 * EXACT);
}

#[test]
fn drops_labels_of_the_lowest_counts_beyond_the_budget() {
    let text = |value: u64| format!("{value:0250}").into_boxed_str();
    let mut top = Names::default();
    for value in 0..EXACT as u64 {
        // The highest counts come neither first nor last.
        let count = if value % 300 == 7 { 100 + value } else { 1 + value % 3 };
        top.add(mix(value + 1), count, || text(value));
        assert!(bytes(&top) <= LABEL_BYTES);
    }
    let entries = top.entries();
    let expected: Vec<Box<str>> = (1..=10).rev().map(|at| text(7 + 300 * at)).collect();
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, expected.iter().map(|name| &**name).collect::<Vec<_>>());
    assert!(entries.iter().all(|entry| entry.error.is_none()), "counts stay exact");
    let mut twice = top.clone();
    twice.merge(&top);
    assert!(bytes(&twice) <= LABEL_BYTES);
    assert_eq!(twice.labels.bytes(), bytes(&twice));
    let back: Names = postcard::from_bytes(&postcard::to_stdvec(&top).unwrap()).unwrap();
    assert_eq!((bytes(&back), back.entries()), (bytes(&top), entries));
}

#[test]
fn rejects_an_inconsistent_state() {
    let entries = vec![(1, 5, Some("a".into()))];
    assert!(Names::try_from(State { error: 9, total: 5, entries: entries.clone() }).is_err());
    assert!(Names::try_from(State { error: 0, total: 4, entries }).is_err());
}

#[test]
fn does_not_merge_implausible_totals() {
    let of = |total| {
        Names::try_from(State { error: 0, total, entries: vec![(1, total, Some("a".into()))] })
    };
    let mut sum = of(MAX_TOTAL).unwrap();
    (0..9).for_each(|_| sum.merge(&of(MAX_TOTAL).unwrap()));
    assert_eq!(sum.counts.as_ref().unwrap().total(), MAX_TOTAL);
    assert!(of(MAX_TOTAL + 1).is_err());
}

#[test]
fn keeps_the_highest_counts_of_a_batch() {
    let counts: Vec<(u64, u64)> =
        (0..10_000).map(|value| (mix(value + 1), 1 + 10_000 / (value + 1))).collect();
    let batch = |counts: &[(u64, u64)]| {
        let mut top = Names::default();
        top.add_batch(counts.iter().copied(), |place| counts[place].0.to_string().into());
        top
    };
    let top = batch(&counts);
    let entries = top.entries();
    let passed_over = 1 + 10_000 / (EXACT as u64 + 1);
    for (entry, (key, count)) in entries.iter().zip(&counts) {
        assert_eq!((&entry.name, entry.estimate), (&key.to_string(), count + passed_over));
        assert_eq!(entry.error, Some(passed_over));
    }
    let mut turned = counts.clone();
    turned.reverse();
    assert_eq!(batch(&turned).entries(), entries, "whatever the order");
    let total: u64 = counts.iter().map(|&(_, count)| count).sum();
    assert_eq!(top.counts.as_ref().unwrap().total(), total, "nothing is lost of the total");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    /// Lists that are cut before or after a merge, or twice, still bound every true count.
    #[test]
    fn true_counts_lie_within_the_bound_of_truncated_lists(
        seed in any::<u64>(),
        parts in 1..6usize,
        keys in 1..8_000u64,
        kept in 0..300usize,
    ) {
        let mut truth: BTreeMap<u64, u64> = BTreeMap::new();
        let mut whole = Names::default();
        for part in 0..parts {
            let mut one = Names::default();
            for at in 0..10_000u64 {
                let random = mix(seed ^ (part as u64 * 10_000 + at));
                let key = (random % keys) * (random >> 40) % keys;
                add(&mut one, key, 1 + random % 3);
                *truth.entry(key).or_default() += 1 + random % 3;
            }
            one.truncate(kept);
            whole.merge(&one);
        }
        whole.truncate(kept);
        let counts = whole.counts.as_ref().unwrap();
        prop_assert!(counts.lower_bounds().len() <= kept);
        prop_assert_eq!(counts.total(), truth.values().sum::<u64>());
        for (&key, &count) in &truth {
            let at_least = counts.at_least(mix(key + 1));
            prop_assert!(at_least <= count && count <= at_least + counts.error());
        }
        for entry in whole.entries() {
            let count = truth[&entry.name.parse::<u64>().unwrap()];
            prop_assert!(entry.estimate >= count);
            prop_assert!(entry.estimate - entry.error.unwrap_or(0) <= count);
        }
    }

    /// For any split of a stream, counted one by one or in batches, and any order of merges: the
    /// true count of every entry lies within its stated bound, and no key above twice the bound is
    /// missing.
    #[test]
    fn true_counts_lie_within_the_bound(seed in any::<u64>(), parts in 1..5usize, keys in 10..20_000u64) {
        let mut truth: BTreeMap<u64, u64> = BTreeMap::new();
        let mut workers: Vec<Names> = (0..parts).map(|_| Names::default()).collect();
        let mut batches: Vec<BTreeMap<u64, u64>> = vec![BTreeMap::new(); parts];
        for step in 0..30_000u64 {
            let random = mix(seed ^ mix(step));
            // Roughly Zipf: the key is log-uniform.
            let key = (keys as f64).powf((random >> 11) as f64 / (1u64 << 53) as f64) as u64;
            *truth.entry(key).or_default() += 1;
            let part = (random % parts as u64) as usize;
            if step % 3 == 0 {
                add(&mut workers[part], key, 1);
            } else {
                *batches[part].entry(key).or_default() += 1;
            }
            if step % 10_000 == 9_999 {
                for (worker, batch) in workers.iter_mut().zip(&mut batches) {
                    let batch: Vec<(u64, u64)> = std::mem::take(batch).into_iter().collect();
                    let hashed = batch.iter().map(|&(key, count)| (mix(key + 1), count));
                    worker.add_batch(hashed, |place| batch[place].0.to_string().into());
                }
            }
        }
        let mut forward = Names::default();
        workers.iter().for_each(|worker| forward.merge(worker));
        let mut backward = Names::default();
        workers.iter().rev().for_each(|worker| backward.merge(worker));
        let bytes = postcard::to_stdvec(&forward).unwrap();
        let back: Names = postcard::from_bytes(&bytes).unwrap();
        prop_assert_eq!(back.entries(), forward.entries());
        for top in [forward, backward] {
            let error = top.counts.as_ref().unwrap().error();
            let entries = top.entries();
            for entry in &entries {
                let count = truth[&entry.name.parse::<u64>().unwrap()];
                prop_assert!(count <= entry.estimate);
                prop_assert!(entry.estimate - entry.error.unwrap_or(0) <= count);
            }
            let least = entries.get(9).map_or(0, |entry| entry.estimate);
            for (key, &count) in &truth {
                let listed = entries.iter().any(|entry| entry.name == key.to_string());
                prop_assert!(listed || count <= least.max(2 * error));
            }
        }
    }
}
