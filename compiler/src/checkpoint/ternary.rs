//! Dense tensors that are ternary already: every element is -s, 0 or +s.
//!
//! In: an `F32`, `F16` or `BF16` matrix. Out: how far one factor s reaches (the matrix, a row, a group of columns), the
//! signs, the factors; or where a matrix is not ternary. Nothing is rounded and no mean is taken. A matrix of
//! -s and +s alone is ternary too.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::dense;
use super::error::Error;
use super::tensor::Tensor;

/// Elements that are widened at a time, about: whole rows.
const PIECE_ELEMS: usize = 1 << 18;
/// The groups of columns that may have a factor of their own, the least first.
const GROUPS: [usize; 4] = [32, 64, 128, 256];

/// How far one factor reaches.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Scales {
    /// The whole matrix: this one.
    Tensor(f32),
    /// Each row has its own.
    Rows,
    /// Each group of so many columns of a row has its own.
    Groups(usize),
    /// Nothing: it is not ternary.
    Nowhere(NotTernary),
}

/// Where weights of several magnitudes stand: the least columns that might share a factor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotTernary {
    row: usize,
    col: usize,
    unit: usize,
}

impl NotTernary {
    /// Why a matrix that should be ternary is refused, with what can be done.
    pub fn refusal(&self, tensor: &Tensor<'_>, advice: &str) -> Error {
        let Self { row, col, unit } = *self;
        let found =
            format!("weights of several magnitudes in row {row}, columns {col} to {}", col.saturating_add(unit));
        let expected = "-s, 0 and +s, with one s for the matrix, for each row, or for each 32, 64, 128 or 256 columns";
        Error::unsupported(tensor.fault(found, expected).next(advice))
    }
}

/// The one magnitude of elements that are 0 or of it; zeros alone have none.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Magnitude {
    None,
    One(f32),
    Several,
}

impl Magnitude {
    fn of(elems: &[f32]) -> Self {
        let most = elems.iter().fold(0.0f32, |most, w| most.max(w.abs()));
        match elems.iter().all(|w| *w == 0.0 || w.abs() == most) {
            true if most == 0.0 => Self::None,
            true => Self::One(most),
            false => Self::Several,
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, one) | (one, Self::None) => one,
            (Self::One(a), Self::One(b)) if a == b => self,
            _ => Self::Several,
        }
    }

    fn of_all(all: &[Self]) -> Self {
        all.iter().fold(Self::None, |sum, one| sum.and(*one))
    }
}

/// How far the factors of `rows` of `tensor` reach: as far as they can. Rows are widened a few at a time.
///
/// # Errors
/// Another type or shape; elements that are not finite, in what was read: the rows up to one that is not ternary. Bug: there are not so
/// many rows.
pub fn scales(tensor: &Tensor<'_>, shape: [usize; 2], rows: Range<usize>) -> Result<Scales, Error> {
    check_shape(tensor, shape)?;
    let [all, cols] = shape;
    if rows.end > all {
        return Err(Error::Bug(format!("the scales of rows {rows:?} were asked of {all} x {cols}")));
    }
    let [least, ..] = GROUPS;
    let unit = if cols.is_multiple_of(least) { least } else { cols };
    let mut groups: Vec<usize> = GROUPS.into_iter().filter(|g| cols.is_multiple_of(*g)).collect();
    let (mut of_tensor, mut by_rows) = (Magnitude::None, true);
    let step = PIECE_ELEMS.checked_div(cols).unwrap_or(1).max(1);
    for first in rows.clone().step_by(step) {
        let band = first..rows.end.min(first.saturating_add(step));
        let elems = band.start.saturating_mul(cols)..band.end.saturating_mul(cols);
        for (row, elems) in band.zip(dense::widen_range(tensor, elems)?.chunks(cols.max(1))) {
            let units: Vec<Magnitude> = elems.chunks(unit.max(1)).map(Magnitude::of).collect();
            if let Some(bad) = units.iter().position(|unit| *unit == Magnitude::Several) {
                return Ok(Scales::Nowhere(NotTernary { row, col: bad.saturating_mul(unit), unit }));
            }
            let of_row = Magnitude::of_all(&units);
            of_tensor = of_tensor.and(of_row);
            if of_row == Magnitude::Several {
                by_rows = false;
                let fits = |group: usize| {
                    let units_of = group.checked_div(unit).unwrap_or(1).max(1);
                    units.chunks(units_of).all(|units| Magnitude::of_all(units) != Magnitude::Several)
                };
                groups.retain(|group| fits(*group));
            }
        }
    }
    Ok(match (of_tensor, by_rows, groups.last()) {
        (Magnitude::None, ..) => Scales::Tensor(0.0),
        (Magnitude::One(scale), ..) => Scales::Tensor(scale),
        (Magnitude::Several, true, _) => Scales::Rows,
        // The least group was looked at as the unit.
        (Magnitude::Several, false, group) => Scales::Groups(group.copied().unwrap_or(unit)),
    })
}

/// Writes the codes (sign + 1) of `rows` of `tensor`, which must be of `shape`, into `out`.
///
/// # Errors
/// Another type or shape; elements that are not finite. Bug: `rows` or `out` do not fit the shape.
pub fn codes(tensor: &Tensor<'_>, shape: [usize; 2], rows: Range<usize>, out: &mut [u8]) -> Result<(), Error> {
    check_shape(tensor, shape)?;
    let [n, k] = shape;
    if rows.end > n || rows.len().saturating_mul(k) != out.len() {
        return Err(Error::Bug(format!("{} codes were asked of rows {rows:?} of {n} x {k}", out.len())));
    }
    let weights = dense::widen_range(tensor, rows.start.saturating_mul(k)..rows.end.saturating_mul(k))?;
    for (code, w) in out.iter_mut().zip(weights) {
        *code = u8::from(w >= 0.0).saturating_add(u8::from(w > 0.0));
    }
    Ok(())
}

/// The factors of `rows` of `tensor`, which must be of `shape`: `groups` of each row, one row after the other.
///
/// # Errors
/// As [`codes`]. Bug: the groups are not equal.
pub fn factors(tensor: &Tensor<'_>, shape: [usize; 2], rows: Range<usize>, groups: usize) -> Result<Vec<f32>, Error> {
    check_shape(tensor, shape)?;
    let [n, k] = shape;
    let group = k.checked_div(groups).filter(|group| *group > 0 && k.is_multiple_of(groups));
    let group = group.filter(|_| rows.end <= n);
    let group = group.ok_or_else(|| Error::Bug(format!("{groups} groups of rows {rows:?} of {n} x {k}")))?;
    let weights = dense::widen_range(tensor, rows.start.saturating_mul(k)..rows.end.saturating_mul(k))?;
    Ok(weights.chunks(group).map(|elems| elems.iter().fold(0.0f32, |most, w| most.max(w.abs()))).collect())
}

fn check_shape(tensor: &Tensor<'_>, shape: [usize; 2]) -> Result<(), Error> {
    if tensor.is_rows(shape) {
        return Ok(());
    }
    let found = format!("shape {:?}", tensor.shape());
    Err(Error::input(tensor.fault(found, format!("{shape:?}"))))
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use super::*;
    use crate::checkpoint::StoredType;

    /// A matrix of ternary values, the factor of each element given by `factor(row, column)`.
    fn check(shape: [usize; 2], factor: impl Fn(usize, usize) -> f32, body: impl Fn(&Tensor<'_>)) {
        let elem = |i: usize| {
            let (row, col) = (i / shape[1], i % shape[1]);
            factor(row, col) * [1.0, 0.0, -1.0, -1.0, 0.0][(row * 7 + col) % 5]
        };
        let bytes: Vec<u8> = (0..shape[0] * shape[1]).flat_map(|i| elem(i).to_le_bytes()).collect();
        let (name, file, stored) = ("w", "f", StoredType::F32);
        body(&Tensor { name, stored, shape: &shape, file, offset_bytes: 0, bytes: &bytes });
    }

    #[test]
    fn a_factor_reaches_as_far_as_it_can() {
        let reach = |shape: [usize; 2], factor: fn(usize, usize) -> f32, want| {
            check(shape, factor, |t| assert_eq!(scales(t, shape, 0..shape[0]).expect("ternary"), want));
        };
        reach([3, 512], |_, _| 0.25, Scales::Tensor(0.25));
        reach([3, 512], |_, _| 0.0, Scales::Tensor(0.0));
        reach([3, 512], |row, _| row as f32, Scales::Rows);
        reach([3, 7], |row, _| 1.0 + row as f32, Scales::Rows);
        reach([3, 512], |row, col| (1 + row + col / 256) as f32, Scales::Groups(256));
        reach([3, 384], |row, col| (1 + row + col / 128) as f32, Scales::Groups(128));
        reach([3, 512], |_, col| (1 + col / 64) as f32, Scales::Groups(64));
        reach([1, 96], |_, col| (1 + col / 32) as f32, Scales::Groups(32));
    }

    #[test]
    fn each_of_the_stacked_matrices_has_its_own_factors() {
        // Three matrices of two rows: one factor, one for each row, one for each 32 columns.
        let factor = |row: usize, col: usize| match row {
            0 | 1 => 0.5,
            2 | 3 => row as f32,
            _ => (1 + row + col / 32) as f32,
        };
        let elem = |i: usize| factor(i / 64, i % 64) * [1.0, -1.0, 0.0][i % 3];
        let bytes: Vec<u8> = (0..6 * 64).flat_map(|i| elem(i).to_le_bytes()).collect();
        let (name, file, stored) = ("w", "f", StoredType::F32);
        let t = Tensor { name, stored, shape: &[3, 2, 64], file, offset_bytes: 0, bytes: &bytes };
        let of = |rows| scales(&t, [6, 64], rows).expect("ternary");
        assert_eq!((of(0..2), of(2..4), of(4..6)), (Scales::Tensor(0.5), Scales::Rows, Scales::Groups(32)));
        assert_eq!(of(0..6), Scales::Groups(32));
        assert_eq!(factors(&t, [6, 64], 3..5, 2).expect("finite"), [3.0, 3.0, 5.0, 6.0]);
        assert!(scales(&t, [3, 128], 0..3).is_err() && scales(&t, [6, 64], 5..7).is_err());
    }

    #[test]
    fn signs_and_factors_come_back() {
        let shape = [4, 256];
        let factor = |row: usize, col: usize| (1 + row * 2 + col / 128) as f32;
        check(shape, factor, |t| {
            let mut out = vec![9; 2 * 256];
            codes(t, shape, 1..3, &mut out).expect("finite");
            let all = factors(t, shape, 1..3, 2).expect("finite");
            assert_eq!(all, [3.0, 4.0, 5.0, 6.0]);
            let whole = dense::widen(t).expect("finite");
            for (i, code) in out.iter().enumerate() {
                let (row, col) = (1 + i / 256, i % 256);
                let w = (f32::from(*code) - 1.0) * all[(row - 1) * 2 + col / 128];
                assert_eq!(w, whole[row * 256 + col], "row {row}, column {col}");
            }
            assert!(codes(t, shape, 1..5, &mut out).is_err(), "there is no row 4");
            assert!(factors(t, shape, 0..1, 3).is_err(), "256 columns are no 3 groups");
        });
    }

    #[test]
    fn what_is_not_ternary_is_refused_where_it_stands() {
        let shape = [2, 64];
        check(
            shape,
            |row, col| if (row, col) == (1, 40) { 2.0 } else { 1.0 },
            |t| {
                let Scales::Nowhere(place) = scales(t, shape, 0..shape[0]).expect("finite") else {
                    panic!("two magnitudes within 32 columns")
                };
                let error = place.refusal(t, "take another");
                assert!(matches!(error, Error::Unsupported(_)));
                assert!(error.to_string().contains("row 1, columns 32 to 64"), "{error}");
            },
        );
        let is_dense = |t: &Tensor<'_>| matches!(scales(t, [2, 33], 0..2), Ok(Scales::Nowhere(_)));
        check([2, 33], |_, col| 1.0 + col as f32, |t| assert!(is_dense(t)));
        check([2, 33], |_, _| 1.0, |t| assert!(scales(t, [3, 33], 0..3).is_err(), "another shape"));
        check([1, 32], |_, col| if col == 3 { f32::NAN } else { 1.0 }, |t| assert!(scales(t, [1, 32], 0..1).is_err()));
    }
}
