//! The fastest choice of packings that fits into memory.
//!
//! In: for each product its ways, each with a time and bytes. Out: a way for each, of least total time among those whose
//! bytes together fit. It is exact: partial sums that another one beats in time and bytes are dropped, nothing else, up to
//! [`MOST_SUMS`] of them; a model has few distinct products, so that their sums coincide and stay few.

use crate::graph::Strategy;

/// One way to compute a product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    /// For one token, for many.
    pub strategies: [Strategy; 2],
    /// Time of a session.
    pub ps: u64,
    /// Packed weights.
    pub bytes: u64,
}

/// What was chosen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fit {
    /// Of each product, which of its ways.
    pub ways: Vec<usize>,
    /// Whether no faster choice fits.
    pub exact: bool,
}

/// Sums that are kept at a time; above, every second one in the order of bytes goes.
pub const MOST_SUMS: usize = 20_000;

/// The ways of the first products, one of each.
#[derive(Clone, Copy)]
struct Sum {
    ps: u64,
    bytes: u64,
    /// The sum without the last product, and that product's way.
    before: u32,
    way: u32,
}

/// The fastest choice of one way per product that takes at most `budget_bytes`.
///
/// # Errors
/// The least bytes that any choice takes, if that is more.
pub fn fit(products: &[Vec<Way>], budget_bytes: u64) -> Result<Fit, u64> {
    let least = |ways: &Vec<Way>| ways.iter().map(|way| way.bytes).min().unwrap_or(0);
    let least_bytes = products.iter().map(least).fold(0u64, u64::saturating_add);
    if least_bytes > budget_bytes {
        return Err(least_bytes);
    }
    let mut exact = true;
    let mut levels: Vec<Vec<Sum>> = vec![vec![Sum { ps: 0, bytes: 0, before: 0, way: 0 }]];
    // What the products that are still to come take at least.
    let mut rest = least_bytes;
    for ways in products {
        rest -= least(ways);
        let last = levels.last().map_or(&[][..], Vec::as_slice);
        let mut sums = Vec::with_capacity(last.len() * ways.len());
        for (before, sum) in last.iter().enumerate() {
            for (way, Way { ps, bytes, .. }) in ways.iter().enumerate() {
                let bytes = sum.bytes.saturating_add(*bytes);
                if bytes.saturating_add(rest) <= budget_bytes {
                    sums.push(Sum { ps: sum.ps.saturating_add(*ps), bytes, before: before as u32, way: way as u32 });
                }
            }
        }
        // By bytes, then by time: of those behind, only faster ones stay.
        sums.sort_by_key(|sum| (sum.bytes, sum.ps, sum.before, sum.way));
        let mut fastest = u64::MAX;
        sums.retain(|sum| {
            let is_faster = sum.ps < fastest;
            fastest = fastest.min(sum.ps);
            is_faster
        });
        if sums.len() > MOST_SUMS {
            exact = false;
            let (mut index, last) = (0, sums.len() - 1);
            // The smallest and the fastest stay in any case.
            sums.retain(|_| {
                index += 1;
                index % 2 == 1 || index - 1 == last
            });
        }
        levels.push(sums);
    }
    // The last one is the fastest.
    let mut at = levels.last().map_or(0, |sums| sums.len().saturating_sub(1));
    let mut chosen = Vec::with_capacity(products.len());
    for sums in levels.iter().skip(1).rev() {
        let Some(sum) = sums.get(at) else { return Err(least_bytes) };
        chosen.push(sum.way as usize);
        at = sum.before as usize;
    }
    chosen.reverse();
    Ok(Fit { ways: chosen, exact })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(ps: u64, bytes: u64) -> Way {
        Way { strategies: [Strategy::Dot2; 2], ps, bytes }
    }

    fn time(products: &[Vec<Way>], fit: &Fit) -> (u64, u64) {
        let chosen = products.iter().zip(&fit.ways).map(|(ways, way)| ways[*way]);
        chosen.fold((0, 0), |(ps, bytes), way| (ps + way.ps, bytes + way.bytes))
    }

    /// Every combination.
    fn best(products: &[Vec<Way>], budget: u64) -> Option<u64> {
        let mut sums = vec![(0, 0)];
        for ways in products {
            sums = sums.iter().flat_map(|(p, b)| ways.iter().map(move |w| (p + w.ps, b + w.bytes))).collect();
        }
        sums.into_iter().filter(|(_, bytes)| *bytes <= budget).map(|(ps, _)| ps).min()
    }

    #[test]
    fn it_finds_what_trying_everything_finds() {
        let mut state = 1u64;
        let mut below = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        for _ in 0..300 {
            let products: Vec<Vec<Way>> =
                (0..1 + below(6)).map(|_| (0..1 + below(4)).map(|_| way(below(50), below(50))).collect()).collect();
            let budget = below(200);
            match (fit(&products, budget), best(&products, budget)) {
                (Ok(found), Some(best)) => {
                    let (ps, bytes) = time(&products, &found);
                    assert!(ps == best && bytes <= budget && found.exact, "{products:?} in {budget}: {found:?}");
                }
                (Err(least), None) => assert!(best(&products, least).is_some() && least > budget),
                (found, best) => panic!("{products:?} in {budget}: {found:?}, expected {best:?}"),
            }
        }
    }

    #[test]
    fn a_greedy_choice_by_gain_per_byte_would_miss_it() {
        // The first gains most per byte, but the second alone fills the budget better.
        let products = [vec![way(100, 0), way(80, 6)], vec![way(100, 0), way(70, 10)]];
        assert_eq!(fit(&products, 10).map(|fit| fit.ways), Ok(vec![0, 1]));
        assert_eq!(fit(&products, 16).map(|fit| fit.ways), Ok(vec![1, 1]));
    }

    #[test]
    fn a_model_of_many_layers_is_solved_exactly() {
        let kinds =
            [vec![way(100, 512), way(70, 640), way(60, 1152)], vec![way(900, 4096), way(650, 5120), way(640, 9216)]];
        let products: Vec<Vec<Way>> = (0..120).map(|i| kinds[i % 2].clone()).collect();
        let fit = fit(&products, 400_000).expect("it fits");
        assert!(fit.exact && time(&products, &fit).1 <= 400_000);
    }
}
