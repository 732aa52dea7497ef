//! Tests of `arith`.

use super::*;

#[test]
fn exp_is_accurate_in_both_profiles() {
    for p in [Profile::Fma, Profile::Plain] {
        for i in -8700..=8800 {
            let x = i as f32 / 100.0;
            let want = f64::from(x).exp();
            let error = (f64::from(exp(p, x)) - want).abs() / want;
            assert!(error < 4e-7, "{p:?} exp({x}): relative error {error:e}");
        }
    }
}

#[test]
fn gelu_is_its_tanh_form() {
    assert!((f64::from(GELU_LINEAR) - 2.0 * (2.0 / std::f64::consts::PI).sqrt()).abs() < 1e-7);
    assert!((f64::from(GELU_CUBIC) - f64::from(GELU_LINEAR) * 0.044715).abs() < 1e-8);
    for p in [Profile::Fma, Profile::Plain] {
        for i in -1000..=1000 {
            let x = f64::from(i) / 100.0;
            let want = x / 2.0 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh());
            let error = (f64::from(gelu(p, x as f32)) - want).abs();
            assert!(error < 1e-6 * want.abs().max(1.0), "{p:?} gelu({x}): error {error:e}");
        }
        assert_eq!((gelu(p, 1e30), gelu(p, -1e30).abs() < 1e-7), (1e30, true), "{p:?}");
        assert!(gelu(p, f32::NAN).is_nan());
    }
}

#[test]
fn rows_are_brought_to_length_one() {
    for p in [Profile::Fma, Profile::Plain] {
        let mut y = [0.0; 19];
        l2norm(p, &std::array::from_fn::<_, 19, _>(|i| i as f32 - 7.5), &mut y);
        assert!((y.iter().map(|y| f64::from(*y).powi(2)).sum::<f64>() - 1.0).abs() < 1e-6);
        l2norm(p, &[0.0; 19], &mut y);
        assert_eq!(y, [0.0; 19], "a row of zeros stays one");
    }
}

#[test]
fn ln2_is_split_without_loss() {
    let whole = f64::from(LN2_HI) + f64::from(LN2_LO);
    assert!((whole - std::f64::consts::LN_2).abs() < 1e-11);
    assert_eq!(LN2_HI.to_bits() & 0x3fff, 0, "LN2_HI must have 10 leading bits only");
}

#[test]
fn rounding_is_half_even() {
    for (x, want) in [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (126.5, 126), (127.4, 127)] {
        assert_eq!(quantize_one(x, 1.0), want, "{x}");
    }
    assert_eq!(quantize_one(f32::NAN, 1.0), -128);
    assert_eq!(quantize_one(1e30, 1.0), 127);
}

#[test]
fn quantised_rows_carry_scale_and_sum() {
    let row = quantize(&[0.5, -1.0, 0.25]);
    assert_eq!(row.codes, [64, -127, 32]);
    assert_eq!((row.scale, row.sum), (127.0, -31));
    assert_eq!(quantize(&[0.0; 5]).scale, 127.0 / ABSMAX_FLOOR);
}

#[test]
fn attention_does_not_depend_on_what_lies_behind() {
    let rows: Vec<Vec<f32>> = (0..130).map(|j| (0..8).map(|d| ((j * 7 + d * 3) % 11) as f32 - 5.0).collect()).collect();
    let q = [1.0, -2.0, 0.5, 0.25, -1.0, 3.0, 0.0, 1.5];
    let mut y = [0.0; 8];
    attention(Profile::Fma, &q, 130, 0.35, |j| &rows[j], |j| &rows[j], &mut y);
    // Softmax weights sum to one: a constant value comes back.
    let ones = [1.0f32; 8];
    let mut one = [0.0; 8];
    attention(Profile::Fma, &q, 130, 0.35, |j| &rows[j], |_| &ones, &mut one);
    for v in one {
        assert!((v - 1.0).abs() < 1e-5, "{v}");
    }
    assert!(y.iter().all(|v| v.abs() <= 5.0));
}
