//! Which ternary matrices have no zeros.
//!
//! In: weights with their shapes. Out: those of whose trits none is zero, which one bit each can hold. A matrix is read up to its
//! first zero: that ends most in their first row. Matrices without zeros are read whole, on several threads.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{WeightData, WeightError};
use crate::graph::WeightId;

/// Codes that are looked at together, about.
const BAND_ELEMS: usize = 1 << 20;
/// Rows that are looked at first.
const FIRST_ROWS: usize = 1;
/// The code of the trit 0.
const ZERO: u8 = 1;

/// The weights among `all` (each with N and K) that have no zeros. The answer does not depend on the number of `threads`.
///
/// # Errors
/// A weight whose data cannot be had.
pub fn without_zeros(
    data: &dyn WeightData,
    all: &[(WeightId, [u32; 2])],
    threads: usize,
) -> Result<BTreeSet<WeightId>, WeightError> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<WeightId>, WeightError> {
        let mut found = Vec::new();
        while let Some((weight, shape)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            if is_without_zeros(data, *weight, shape.map(|n| n as usize))? {
                found.push(*weight);
            }
        }
        Ok(found)
    };
    let parts: Vec<Result<Vec<WeightId>, WeightError>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (1..threads.min(all.len()))
            .filter_map(|index| {
                let named = std::thread::Builder::new().name(format!("tern-signs-{index}"));
                // A thread that the system does not start leaves its work to the others.
                named.spawn_scoped(scope, work).ok()
            })
            .collect();
        let own = work();
        let theirs =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        std::iter::once(own).chain(theirs).collect()
    });
    let mut without = BTreeSet::new();
    for part in parts {
        without.extend(part?);
    }
    Ok(without)
}

/// Whether no trit of one weight is zero.
fn is_without_zeros(data: &dyn WeightData, weight: WeightId, shape: [usize; 2]) -> Result<bool, WeightError> {
    let [rows, cols] = shape;
    let step = (BAND_ELEMS / cols.max(1)).max(1);
    let mut codes = Vec::new();
    let mut first = 0;
    while first < rows {
        let end = (first + if first == 0 { FIRST_ROWS } else { step }).min(rows);
        codes.resize((end - first) * cols, 0);
        data.codes(weight, shape, first..end, &mut codes)?;
        if codes.contains(&ZERO) {
            return Ok(false);
        }
        first = end;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{MemoryWeights, Trits};

    #[test]
    fn only_matrices_without_a_single_zero_are_found() {
        let mut data = MemoryWeights::default();
        let mut all = Vec::new();
        for (id, zero_at) in [None, Some(0), Some(3 * 700 - 1), None, Some(1500)].into_iter().enumerate() {
            let mut trits: Vec<i8> = (0..3 * 700).map(|i| if i % 3 == 0 { -1 } else { 1 }).collect();
            if let Some(at) = zero_at {
                trits[at] = 0;
            }
            let id = WeightId(id as u32);
            data.trits.insert(id, Trits { rows: 3, cols: 700, data: trits });
            all.push((id, [3, 700]));
        }
        for threads in [0, 1, 3, 9] {
            let found = without_zeros(&data, &all, threads).expect("all are there");
            assert_eq!(found.into_iter().collect::<Vec<_>>(), [WeightId(0), WeightId(3)]);
        }
        all.push((WeightId(9), [3, 700]));
        assert!(without_zeros(&data, &all, 2).is_err());
    }
}
